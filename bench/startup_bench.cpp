// SPDX-License-Identifier: MIT
// Bench "retarget": what 10,000 dynamic functions cost when the object that holds them starts. Two shared objects with the same
// bytes are loaded in turn; one of them announces its tables to the library, the other does not.
#include <cmath>
#include <memory>

#include "benches.hpp"
#include "module.hpp"

namespace bench {
namespace {

constexpr const char* silent = "dynfunc-bench-startup-silent.so";
constexpr const char* announced = "dynfunc-bench-startup.so";

double load_ns(const char* name) {
    const double begin = now(Clock::thread_cpu);
    const Module module(name);
    const double ns = now(Clock::thread_cpu) - begin;
    return module.error().empty() ? ns : std::nan("");
}

}  // namespace

void bench_startup(Run& run) {
    Group group(
        run,
        {.bench = "retarget",
         .title = "start-up of 10,000 functions",
         .text =
             "dlopen: an object with 10,000 dynamic functions is loaded, its tables not announced. dlopen-dynfunc: the same "
             "object announces them, every trampoline is patched. registration: the second less the first.",
         .baseline = "dlopen",
         .unit = "ns per start"});
    const Params params = {{"functions", 10000}};
    for (const char* name : {silent, announced})
        if (const Module module(name); !module.error().empty()) {
            group.leave_out("registration", params, module.error());
            return;
        }
    // The cases of a round run in the order in which they were added, so the third finds what the other two measured.
    struct Round {
        double silent, announced;
    };
    const auto round = std::make_shared<Round>();
    group.add({.id = "dlopen", .params = params, .sample = [round] { return round->silent = load_ns(silent); }});
    group.add({.id = "dlopen-dynfunc", .params = params, .sample = [round] { return round->announced = load_ns(announced); }});
    group.add({.id = "registration",
               .params = params,
               .sample = [round] { return round->announced - round->silent; },
               .targets = {ns_at_most(5e6)}});
    group.measure();
}

}  // namespace bench
