// SPDX-License-Identifier: MIT
// Bench "calls": one hot call site, and one call site whose target changes. Many sites: call_sites_bench.cpp.
#include <algorithm>
#include <array>
#include <dynfunc/introspect.hpp>
#include <random>

#include "benches.hpp"
#include "dispatch_loops.hpp"
#include "dynfunc_loops.hpp"
#include "indirect_loops.hpp"

namespace bench {
namespace {

constexpr const char* no_retpolines = "the compiler makes no retpolines for this machine";
constexpr const char* no_slot_form = "the bytes of the slot form are known for x86-64 only";

std::string form_of(const char* function) {
    const auto info = dynfunc::find_function(function);
    return info ? to_string(info->form) : "";
}

void add_if_made(Group& group, const char* id, const Params& params, Loop loop, const char* why_not, const char* form = "") {
    if (loop != nullptr)
        group.add({.id = id, .params = params, .run = loop, .form = form});
    else
        group.leave_out(id, params, why_not);
}

constexpr const char* not_a_trampoline = "its call site is patched, so that it would not be the trampoline that is measured";

// The dynamic function twice: through its trampoline, and from a call site that is patched.
void add_dynfunc(Group& group, const Params& params, const Layout& layout, const std::vector<Target>& through,
                 const std::vector<Target>& patched) {
    const auto figures = [](std::int64_t sites) { return [sites] { return Params{{"sites_patched", sites}}; }; };
    const std::string form = form_of(layout.function);
    constexpr const char* not_as_named = "the linker put the trampoline and its target elsewhere";
    if (!layout.as_named || !layout.keeps_trampoline)
        group.leave_out("dynfunc", params, layout.as_named ? not_a_trampoline : not_as_named);
    else
        group.add({.id = "dynfunc",
                   .params = params,
                   .run = layout.trampoline,
                   .targets = through,
                   .form = form,
                   .figures = figures(0)});
    if (!layout.as_named || !layout.why_not_patched.empty())
        group.leave_out("dynfunc-inline", params, layout.as_named ? layout.why_not_patched : not_as_named);
    else
        group.add({.id = "dynfunc-inline",
                   .params = params,
                   .run = layout.patched,
                   .targets = patched,
                   .form = form,
                   .figures = figures(1)});
}

// Limits from the patched form's figures; a lesser form is shown against them all the same.
void measure_hot_site(Run& run, const Layout& layout, double most) {
    Group group(
        run,
        {.bench = "calls",
         .title = std::string("hot site, ") + (layout.name == std::string("near") ? "target near" : "target on another page"),
         .text = "One call site in a loop, each call waiting for the result of the one before. In the layout \"near\" "
                 "the trampoline and its target lie in one page, in \"page\" they do not. dynfunc: the call goes through its "
                 "trampoline, because its file has no unwind tables. dynfunc-inline: the call site itself is patched; "
                 "introspection and the bytes say so.",
         .baseline = "direct",
         .unit = "ns per call"});
    const Params params = {{"sites", 1}, {"targets", 1}, {"layout", layout.name}};
    std::vector<Target> targets = {ratio_at_most(most), times_faster_than("signals2", 25)};
    if (retpoline_loops.pointer != nullptr) targets.push_back(times_faster_than("pointer-retpoline", 3.5));

    group.add({.id = "direct", .params = params, .run = layout.direct});
    add_dynfunc(group, params, layout, targets, {ratio_at_most(1.05)});
    add_if_made(group, "dynfunc-slot", params, slot_loop, no_slot_form, "slot");
    group.add({.id = "dynfunc-generic", .params = params, .run = &generic_loop, .form = "pointer"});
    group.add({.id = "pointer", .params = params, .run = plain_loops.pointer});
    group.add({.id = "virtual", .params = params, .run = plain_loops.virtual_call});
    group.add({.id = "std-function", .params = params, .run = &std_function_loop});
    add_if_made(group, "pointer-retpoline", params, retpoline_loops.pointer, no_retpolines);
    add_if_made(group, "virtual-retpoline", params, retpoline_loops.virtual_call, no_retpolines);
    group.add({.id = "signals2", .params = params, .run = &signals2_loop});
    group.measure();
}

// Which of `targets` callees each call reaches.
struct Order {
    std::vector<std::uint8_t> order;
    std::uint64_t mask() const { return order.size() - 1; }

    static Order rotating(std::size_t targets) {
        Order made;
        for (std::size_t i = 0; i < targets; ++i) made.order.push_back(static_cast<std::uint8_t>(i));
        return made;
    }
    // Long enough that no predictor learns it.
    static Order random(std::size_t targets) {
        Order made;
        std::mt19937 engine(1);
        for (std::size_t i = 0; i < 1 << 16; ++i) made.order.push_back(static_cast<std::uint8_t>(engine() % targets));
        return made;
    }
};

void add_changing(Group& group, const char* id, const IndirectLoops& loops, std::size_t targets, const char* order_name) {
    Order order = order_name == std::string("random") ? Order::random(targets) : Order::rotating(targets);
    group.add({.id = id,
               .params = {{"sites", 1}, {"targets", static_cast<std::int64_t>(targets)}, {"order", order_name}},
               .run = [order = std::move(order), rotating = loops.rotating](std::uint64_t n) {
                   rotating(n, order.order.data(), order.mask());
               }});
}

void measure_changing_targets(Run& run) {
    Group group(run,
                {.bench = "calls",
                 .title = "changing targets",
                 .text = "Calls through one site that reach another target each time, as a table of pointers gives, against "
                         "a direct call and a patched jump, whose target does not change from call to call.",
                 .baseline = "direct",
                 .unit = "ns per call"});
    const Layout layout = page_layout();
    const Params fixed = {{"sites", 1}, {"targets", 1}, {"order", "fixed"}};
    group.add({.id = "direct", .params = fixed, .run = layout.direct});
    add_dynfunc(group, fixed, layout, {}, {});
    add_changing(group, "pointer", plain_loops, 1, "rotating");
    for (const char* order : {"rotating", "random"})
        for (const std::size_t targets : {2, 4, 8}) add_changing(group, "pointer", plain_loops, targets, order);
    if (retpoline_loops.rotating != nullptr) {
        add_changing(group, "pointer-retpoline", retpoline_loops, 1, "rotating");
        add_changing(group, "pointer-retpoline", retpoline_loops, 8, "random");
    } else {
        group.leave_out("pointer-retpoline", {}, no_retpolines);
    }
    group.measure();
}

}  // namespace

void bench_calls(Run& run) {
    measure_hot_site(run, near_layout(), 1.05);
    measure_hot_site(run, page_layout(), 1.25);
    measure_changing_targets(run);
    bench_call_sites(run);
}

}  // namespace bench
