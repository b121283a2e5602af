// SPDX-License-Identifier: MIT
// What 10,000 dynamic functions, or 10,000 branch sites, cost when the object that holds them starts. Two shared objects with
// the same bytes are loaded in turn; one of them announces its tables to the library, the other does not.
#include <cmath>
#include <memory>

#include "benches.hpp"
#include "module.hpp"

namespace bench {
namespace {

double load_ns(const std::string& name) {
    const double begin = now(Clock::thread_cpu);
    const Module module(name);
    const double ns = now(Clock::thread_cpu) - begin;
    return module.error().empty() ? ns : std::nan("");
}

void measure(Run& run, GroupOptions options, const Params& params, const std::string& module) {
    options.baseline = "dlopen";
    options.unit = "ns per start";
    Group group(run, options);
    const std::string silent = module + "-silent.so", announced = module + ".so";
    for (const std::string& name : {silent, announced})
        if (const Module tried(name); !tried.error().empty()) {
            group.leave_out("registration", params, tried.error());
            return;
        }
    // The cases of a round run in the order in which they were added, so the third finds what the other two measured.
    struct Round {
        double silent, announced;
    };
    const auto round = std::make_shared<Round>();
    group.add({.id = "dlopen", .params = params, .sample = [=] { return round->silent = load_ns(silent); }});
    group.add({.id = "dlopen-dynfunc", .params = params, .sample = [=] { return round->announced = load_ns(announced); }});
    group.add({.id = "registration",
               .params = params,
               .sample = [=] { return round->announced - round->silent; },
               .targets = {ns_at_most(5e6)}});
    group.measure();
}

}  // namespace

void bench_startup(Run& run) {
    measure(run,
            {.bench = "retarget",
             .title = "start-up of 10,000 functions",
             .text = "dlopen: an object with 10,000 dynamic functions is loaded, its tables not announced. dlopen-dynfunc: the "
                     "same object announces them, every trampoline is patched. registration: the second less the first.",
             .baseline = {}},
            {{"functions", 10000}}, "dynfunc-bench-startup");
}

void bench_branch_startup(Run& run) {
    measure(
        run,
        {.bench = "static_keys",
         .title = "start-up of 10,000 branch sites",
         .text = "dlopen: an object with 10,000 branch sites of one key, 64 bytes apart, is loaded, its tables not announced. "
                 "dlopen-dynfunc: the same object announces them, every site is patched. registration: the second less the "
                 "first.",
         .baseline = {}},
        {{"keys", 1}, {"sites", 10000}}, "dynfunc-bench-branch-startup");
}

}  // namespace bench
