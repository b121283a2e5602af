// SPDX-License-Identifier: MIT
// The benches by name. Each adds its groups to the run; `dynfunc-bench NAME` picks some.
#pragma once

#include "harness.hpp"

namespace bench {

void bench_calls(Run&);
void bench_retarget(Run&);
void bench_text_writers(Run&);
void bench_tracepoints(Run&);
void bench_static_keys(Run&);
void bench_hackbench(Run&);
void bench_pool(Run&);
void bench_probes(Run&);
void bench_many_probes(Run&);
void bench_readers(Run&);
void bench_return_probes(Run&);

struct Bench {
    const char* name;
    const char* summary;
    void (*run)(Run&);
};

inline constexpr Bench all_benches[] = {
    {"calls", "what a call costs: direct, dynamic function, pointer, virtual, std::function, retpolines, signals2",
     &bench_calls},
    {"retarget",
     "what changing a target costs: alone, under callers, in batches, per call site; finding call sites; start-up of 10,000",
     &bench_retarget},
    {"text_writers", "ways to write one word of running code, by plain system calls", &bench_text_writers},
    {"tracepoints", "what an event costs with 0 to 8 callbacks, and what attaching does", &bench_tracepoints},
    {"static_keys", "what a switched-off and a switched-on branch cost; toggling 1 to 10,000 sites", &bench_static_keys},
    {"hackbench", "hackbench with all trace events on, in four builds", &bench_hackbench},
    {"pool", "object pools: pop and push of ours, of 12 others and of malloc, by 1 to 8 threads; --matrix: all that varies",
     &bench_pool},
    {"probes", "what a hit of a probe costs: none, int3, the kernel's uprobe, hit by 1 to 64 threads; attaching 50",
     &bench_probes},
    {"many_probes", "40,000 probes: registering, enabling and disabling them, and a hit of one of them", &bench_many_probes},
    {"return_probes",
     "what seeing a function return costs: ours, the kernel's uretprobe, a hijacked return address with three pools; 1 to 64 "
     "threads, calls inside calls, exceptions, processes at work",
     &bench_return_probes},
    {"readers", "read sections and waiting for them: ours, liburcu's, SRCU, counters, a mutex; 1 to 64 threads",
     &bench_readers},
};

// Parts of a bench that have files of their own.
void bench_call_sites(Run&);      // calls: many distinct sites
void bench_batches(Run&);         // retarget: retarget_all
void bench_site_batches(Run&);    // retarget: retarget_all, with call sites
void bench_finding(Run&);         // retarget: what finding call sites costs
void bench_startup(Run&);         // retarget: what registration costs
void bench_attach(Run&);          // tracepoints: attach and detach
void bench_toggle(Run&);          // static_keys: enable and disable
void bench_branch_startup(Run&);  // static_keys: what registration costs
void bench_nested_returns(Run&);  // return_probes: functions inside each other
void bench_lookups(Run&);         // many_probes: where a trap goes on
void bench_throws(Run&);          // return_probes: exceptions
void bench_return_work(Run&);     // return_probes: processes at work

}  // namespace bench
