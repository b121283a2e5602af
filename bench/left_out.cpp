// SPDX-License-Identifier: MIT
// In place of the files that hold x86-64 code, on other machines: says what is left out.
#include "benches.hpp"
#include "dynfunc_loops.hpp"

namespace bench {

const Loop slot_loop = nullptr;

void bench_text_writers(Run& run) {
    Group(run, {.bench = "text_writers", .title = "ways to write code", .baseline = ""})
        .leave_out("permanent-alias", {}, "the code to be written is x86-64 code");
}

void bench_probes(Run& run) {
    Group(run, {.bench = "probes", .title = "probes", .baseline = ""})
        .leave_out("unprobed", {}, "the functions to be probed are x86-64 code");
}

void bench_many_probes(Run& run) {
    Group(run, {.bench = "many_probes", .title = "many probes", .baseline = ""})
        .leave_out("register-40000", {}, "the functions to be probed are x86-64 code");
}

void bench_return_probes(Run& run) {
    Group(run, {.bench = "return_probes", .title = "return probes", .baseline = ""})
        .leave_out("unprobed", {}, "the functions to be probed are x86-64 code");
}

}  // namespace bench
