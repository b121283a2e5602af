// SPDX-License-Identifier: MIT
// The benches by name. Each adds its groups to the run; `dynfunc-bench NAME` picks some.
#pragma once

#include "harness.hpp"

namespace bench {

void bench_calls(Run&);
void bench_retarget(Run&);
void bench_text_writers(Run&);

struct Bench {
    const char* name;
    const char* summary;
    void (*run)(Run&);
};

inline constexpr Bench all_benches[] = {
    {"calls", "what a call costs: direct, dynamic function, pointer, virtual, std::function, retpolines, signals2",
     &bench_calls},
    {"retarget", "what changing a target costs: alone, under callers, in batches; start-up of 10,000 functions",
     &bench_retarget},
    {"text_writers", "ways to write one word of running code, by plain system calls", &bench_text_writers},
};

// Parts of a bench that have files of their own.
void bench_call_sites(Run&);  // calls: many distinct sites
void bench_batches(Run&);     // retarget: retarget_all
void bench_startup(Run&);     // retarget: what registration costs

}  // namespace bench
