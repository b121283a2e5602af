// SPDX-License-Identifier: MIT
// Bench "retarget": one function, alone and while threads call it. Batches and start-up have files of their own.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "callees.hpp"
#include "dynfunc_loops.hpp"
#include "membarrier.hpp"

namespace bench {

DYNFUNC(moving, int(int), &callee_0);         // called from call_moving() alone, through its trampoline
DYNFUNC(moving_inline, int(int), &callee_0);  // from one call site, which is patched

namespace {

std::atomic<Callee*> moving_pointer = &callee_0;

[[gnu::noinline]] void call_moving_inline() {
    int x = moving_inline(1);
    asm volatile("" ::"r"(x));
}

void call_both() {
    call_moving();
    call_moving_inline();
}

void check(const dynfunc::Result<void>& done) {
    if (done) return;
    std::fprintf(stderr, "dynfunc-bench: retarget: %s\n", done.error().message().c_str());
    std::exit(1);
}
void retarget_once(std::size_t turn) { check(moving.retarget(callees[turn % callees.size()])); }
void retarget_inline_once(std::size_t turn) { check(moving_inline.retarget(callees[turn % callees.size()])); }

// How many call sites of a function are patched, once it has been retargeted.
std::size_t patched_sites(const char* function) {
    const auto info = dynfunc::find_function(function);
    return info ? info->call_sites.patched : 0;
}

void store_pointer(std::size_t turn) { moving_pointer.store(callees[turn % callees.size()], std::memory_order_release); }

struct Operation {
    const char* id;
    void (*once)(std::size_t turn);
};

// What the library adds to the barrier is the question; the pointer is what a program without the library would store.
void add_operations(Group& group, const Params& params, double most_ns, const std::function<void(Case, Operation)>& add) {
    if (register_sync_cores())
        add({.id = "membarrier", .params = params}, {"membarrier", [](std::size_t) { sync_cores(); }});
    else
        group.leave_out("membarrier", params, "the system refuses membarrier(PRIVATE_EXPEDITED_SYNC_CORE)");
    add({.id = "pointer", .params = params}, {"pointer", &store_pointer});
    std::vector<Target> targets;
    if (most_ns > 0) targets.push_back(ns_at_most(most_ns));
    const std::string form = to_string(dynfunc::capabilities().form);
    retarget_once(1);
    retarget_inline_once(1);
    if (patched_sites("bench::moving") == 0)
        add({.id = "dynfunc", .params = params, .targets = targets, .form = form}, {"dynfunc", &retarget_once});
    else
        group.leave_out("dynfunc", params, "its call site is patched too");
    if (patched_sites("bench::moving_inline") == 1)
        add({.id = "dynfunc-inline", .params = params, .targets = targets, .form = form},
            {"dynfunc-inline", &retarget_inline_once});
    else
        group.leave_out("dynfunc-inline", params, "its call site is not patched in this process");
}

GroupOptions options(std::string title, std::string text, Clock clock) {
    return {.bench = "retarget",
            .title = std::move(title),
            .text = std::move(text),
            .baseline = register_sync_cores() ? "membarrier" : "pointer",
            .unit = "ns per retarget",
            .clock = clock};
}

void measure_alone(Run& run) {
    Group group(run, options("one function, no other thread",
                             "dynfunc: one retarget(), of a trampoline. dynfunc-inline: of a trampoline and the one call site. "
                             "pointer: one store to an atomic pointer. membarrier: that system call alone, "
                             "the least that a change of running code costs.",
                             Clock::thread_cpu));
    add_operations(group, {{"batch", 1}, {"callers", 0}}, 2e3, [&](Case c, Operation operation) {
        c.run = [operation](std::uint64_t n) {
            for (std::uint64_t i = 0; i < n; ++i) operation.once(i);
        };
        group.add(std::move(c));
    });
    group.measure();
}

void measure_under_callers(Run& run, std::size_t count, const std::string& title, double most_ns) {
    Group group(
        run,
        options(title,
                "While other threads call the function without pause. A sample counts only if each caller on another core was "
                "seen to run just before and just after it.",
                Clock::wall));
    const Params params = {{"batch", 1}, {"callers", static_cast<std::int64_t>(count)}};
    if (BusyCallers::other_cores() == 0) {
        group.leave_out("dynfunc", params, "needs a second core");
        return;
    }
    const BusyCallers callers(&call_both, count);
    add_operations(group, params, most_ns, [&](Case c, Operation operation) {
        c.sample = [&callers, operation, turn = std::size_t{0}]() mutable {
            return median_latency(callers, [&] { operation.once(turn++); });
        };
        group.add(std::move(c));
    });
    group.measure();
}

}  // namespace

void bench_retarget(Run& run) {
    measure_alone(run);
    measure_under_callers(run, 1, "one function, 1 busy caller", 15e3);
    measure_under_callers(run, allowed_cpus().size(), "one function, callers on every core", 0);
    bench_batches(run);
    bench_site_batches(run);
    bench_finding(run);
    bench_startup(run);
}

}  // namespace bench
