// SPDX-License-Identifier: MIT
#include "on_loops.hpp"

#include <dynfunc/dynfunc.hpp>
#include <span>

#include "event_callbacks.hpp"

namespace bench {

DYNFUNC_TRACEPOINT(on_1, Callback);
DYNFUNC_TRACEPOINT(on_1_section, Callback);
DYNFUNC_TRACEPOINT(on_2, Callback);
DYNFUNC_TRACEPOINT(on_4, Callback);
DYNFUNC_TRACEPOINT(on_8, Callback);

DYNFUNC(trampoline_0, Callback, &callback<0>);
DYNFUNC(trampoline_1, Callback, &callback<1>);
DYNFUNC(trampoline_2, Callback, &callback<2>);
DYNFUNC(trampoline_3, Callback, &callback<3>);
DYNFUNC(trampoline_4, Callback, &callback<4>);
DYNFUNC(trampoline_5, Callback, &callback<5>);
DYNFUNC(trampoline_6, Callback, &callback<6>);
DYNFUNC(trampoline_7, Callback, &callback<7>);

namespace {

#define BENCH_TRACE_SLOT(Name, tracepoint)                                                 \
    struct Name {                                                                          \
        [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) { \
            DYNFUNC_TRACE(tracepoint, key, bytes);                                         \
        }                                                                                  \
    }
BENCH_TRACE_SLOT(On1, on_1);
BENCH_TRACE_SLOT(On1Section, on_1_section);
BENCH_TRACE_SLOT(On2, on_2);
BENCH_TRACE_SLOT(On4, on_4);
BENCH_TRACE_SLOT(On8, on_8);
#undef BENCH_TRACE_SLOT

template <std::size_t count>
struct DirectSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) {
        [&]<std::size_t... each>(std::index_sequence<each...>) { (callback<each>(key, bytes), ...); }
        (std::make_index_sequence<count>());
    }
};

template <std::size_t count>
struct TrampolinesSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) {
        trampoline_0(key, bytes);
        if constexpr (count > 1) trampoline_1(key, bytes);
        if constexpr (count > 2) trampoline_2(key, bytes), trampoline_3(key, bytes);
        if constexpr (count > 4)
            trampoline_4(key, bytes), trampoline_5(key, bytes), trampoline_6(key, bytes), trampoline_7(key, bytes);
    }
};

template <class Tracepoint>
dynfunc::Result<OnCase> attach(Tracepoint& tracepoint, const char* name, Loop loop, std::size_t count) {
    OnCase made{"on-" + std::to_string(count), name, loop, {}};
    for (Callback* each : std::span(callbacks, count)) {
        auto subscription = tracepoint.attach(each, {.static_lifetime = true});
        if (!subscription) return std::unexpected(subscription.error());
        made.subscriptions.push_back(std::move(*subscription));
    }
    return made;
}

dynfunc::Result<OnCase> attach_capture() {
    auto subscription = on_1_section.attach([first = callbacks[0]](std::uint64_t key, std::uint64_t bytes) {
        asm volatile("" ::"r"(key), "r"(bytes), "r"(first));  // as callback<0>, with a capture that it reads
    });
    if (!subscription) return std::unexpected(subscription.error());
    OnCase made{"on-1-section", "bench::on_1_section", &loop_alone<On1Section>, {}};
    made.subscriptions.push_back(std::move(*subscription));
    return made;
}

}  // namespace

Loop direct_loop(std::size_t callbacks) { return loop_of<DirectSlot>(callbacks); }
Loop trampolines_loop(std::size_t callbacks) { return loop_of<TrampolinesSlot>(callbacks); }

dynfunc::Result<std::vector<OnCase>> on_cases(std::size_t callbacks) {
    std::vector<dynfunc::Result<OnCase>> tried;
    switch (callbacks) {
        case 1:
            tried.push_back(attach(on_1, "bench::on_1", &loop_alone<On1>, 1));
            tried.push_back(attach_capture());
            break;
        case 2:
            tried.push_back(attach(on_2, "bench::on_2", &loop_alone<On2>, 2));
            break;
        case 4:
            tried.push_back(attach(on_4, "bench::on_4", &loop_alone<On4>, 4));
            break;
        default:
            tried.push_back(attach(on_8, "bench::on_8", &loop_alone<On8>, 8));
            break;
    }
    std::vector<OnCase> made;
    for (auto& each : tried) {
        if (!each) return std::unexpected(each.error());
        made.push_back(std::move(*each));
    }
    return made;
}

}  // namespace bench
