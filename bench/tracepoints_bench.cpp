// SPDX-License-Identifier: MIT
// Bench "tracepoints": what an event costs while nobody listens, and with 1 to 8 callbacks. Attaching: attach_bench.cpp.
#include <dynfunc/introspect.hpp>

#include "benches.hpp"
#include "iterators.hpp"
#include "off_slots.hpp"
#include "on_loops.hpp"

namespace bench {
namespace {

void measure_off(Run& run, bool beside_call) {
    Group group(
        run, {.bench = "tracepoints",
              .title = beside_call ? "off, one in a loop with one call" : "off, 16 in a row",
              .text = "Nobody listens. off-nop: ours. off-flag: load and test of a flag. off-ret: call of a dynamic function "
                      "that returns at once. usdt: DTRACE_PROBE1. lttng-off: a tracepoint of LTTng-UST. empty: the same loop "
                      "with nothing in that place; its arguments are in registers.",
              .baseline = "empty",
              .unit = "ns per event"});
    const Params params = {{"callbacks", 0}, {"sites", beside_call ? 1 : std::int64_t{slots_in_a_row}}};
    const auto add = [&](const char* id, const OffSlot& slot, std::string form = {}, std::vector<Target> targets = {}) {
        const Loop loop = beside_call ? slot.beside_call : slot.in_a_row;
        if (loop == nullptr)
            group.leave_out(id, params, slot.why_not);
        else
            group.add({.id = id,
                       .params = params,
                       .run = loop,
                       .elements = beside_call ? 1.0 : double{slots_in_a_row},
                       .targets = std::move(targets),
                       .form = std::move(form)});
    };
    const std::string form = to_string(dynfunc::capabilities().form);
    add("empty", empty_slot);
    add("off-nop", off_nop, form, beside_call ? std::vector<Target>{ratio_at_most(1.1)} : std::vector<Target>{});
    add("off-flag", off_flag);
    add("off-ret", off_ret, form);
    add("usdt", usdt_slot);
    add("lttng-off", lttng_slot);
    group.measure();
}

std::vector<Target> targets_of(const OnCase& on, std::size_t callbacks) {
    if (on.id == "on-1") return {ratio_at_most(1.2)};
    if (on.id == "on-1-section") return {ratio_at_most(1.5)};
    if (callbacks != most_callbacks) return {};
    std::vector<Target> targets = {ratio_at_most(1.15), times_faster_than("iterator-8", 1.7)};
    if (retpoline_iterators.bare != nullptr) targets.push_back(times_faster_than("iterator-retpoline-8", 5));
    return targets;
}

void measure_on(Run& run, std::size_t callbacks) {
    const std::string number = std::to_string(callbacks);
    Group group(run,
                {.bench = "tracepoints",
                 .title = "on, " + number + (callbacks == 1 ? " callback" : " callbacks"),
                 .text = "Callbacks that do nothing. direct: called in a row, as if written there. on: our tracepoint; one "
                         "plain function of static lifetime is called without a read section, on-1-section (a lambda with "
                         "a capture) and on with several callbacks inside one. trampolines: dynamic functions called in a "
                         "row, one jump behind each call. iterator: a loop over an array of functions and data, nothing else; "
                         "-section: the same behind a flag and inside a read section, as ours is.",
                 .baseline = "direct-" + number,
                 .unit = "ns per event"});
    const Params params = {{"callbacks", static_cast<std::int64_t>(callbacks)}};
    const std::string form = to_string(dynfunc::capabilities().form);
    const auto add = [&](const std::string& id, std::function<void(std::uint64_t)> loop) {
        group.add({.id = id + '-' + number, .params = params, .run = std::move(loop)});
    };
    const auto iterate = [list = &listeners[callbacks]](IteratorLoops::Loop loop) {
        return [list, loop](std::uint64_t n) { loop(n, list); };
    };
    const auto add_iterators = [&](const std::string& id, const IteratorLoops& loops) {
        add(id, iterate(loops.bare));
        add(id + "-section", iterate(loops.guarded));
    };

    add("direct", direct_loop(callbacks));
    const auto ours = on_cases(callbacks);
    if (ours)
        for (const OnCase& on : *ours)
            group.add({.id = on.id, .params = params, .run = on.loop, .targets = targets_of(on, callbacks), .form = form});
    else
        group.leave_out("on-" + number, params, ours.error().message());
    add("trampolines", trampolines_loop(callbacks));
    add_iterators("iterator", plain_iterators);
    if (retpoline_iterators.bare != nullptr)
        add_iterators("iterator-retpoline", retpoline_iterators);
    else
        group.leave_out("iterator-retpoline-" + number, params, "the compiler makes no retpolines for this machine");
    add("signals2", signals2_event_loop(callbacks));
    group.measure();
}

}  // namespace

void bench_tracepoints(Run& run) {
    measure_off(run, true);
    measure_off(run, false);
    for (const std::size_t callbacks : {1, 2, 4, 8}) measure_on(run, callbacks);
    bench_attach(run);
}

}  // namespace bench
