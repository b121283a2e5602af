// SPDX-License-Identifier: MIT
#include <boost/signals2.hpp>

#include "callees.hpp"
#include "dispatch_loops.hpp"

namespace bench {

[[gnu::noinline]] void signals2_loop(std::uint64_t n) {
    static boost::signals2::signal<Callee> signal;
    if (signal.empty()) signal.connect(&callee_0);
    chain(n, [](int x) { return *signal(x); });
}

}  // namespace bench
