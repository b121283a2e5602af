// SPDX-License-Identifier: MIT
#include <boost/signals2.hpp>

#include "callees.hpp"
#include "dispatch_loops.hpp"
#include "event_callbacks.hpp"
#include "on_loops.hpp"

namespace bench {

[[gnu::noinline]] void signals2_loop(std::uint64_t n) {
    static boost::signals2::signal<Callee> signal;
    if (signal.empty()) signal.connect(&callee_0);
    chain(n, [](int x) { return *signal(x); });
}

namespace {

template <std::size_t count>
struct Signals2Slot {
    static void event(std::uint64_t key, std::uint64_t bytes) {
        static boost::signals2::signal<Callback> signal;
        if (signal.empty()) [[unlikely]]
            for (std::size_t i = 0; i < count; ++i) signal.connect(callbacks[i]);
        signal(key, bytes);
    }
};

}  // namespace

Loop signals2_event_loop(std::size_t callbacks) { return loop_of<Signals2Slot>(callbacks); }

}  // namespace bench
