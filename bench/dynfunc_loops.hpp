// SPDX-License-Identifier: MIT
// Calls of dynamic functions and the direct calls they compete with, one pair per layout.
#pragma once

#include <cstdint>
#include <dynfunc/dynfunc.hpp>
#include <string>

#include "callees.hpp"

namespace bench {

DYNFUNC_DECLARE(near_call, int(int));
DYNFUNC_DECLARE(page_call, int(int));
DYNFUNC_DECLARE(moving, int(int));  // of bench "retarget"

using Loop = void (*)(std::uint64_t n);

struct Layout {
    // "near": trampoline and target in one page; "page": in different pages. Measured on Zen 4: the jump is free to another
    // line of its page, and costs one cycle to another page as well as within its own cache line.
    const char* name;
    const char* function;  // the dynamic function's qualified name
    Loop direct;
    Loop trampoline;              // its call site is not recognised, and calls the trampoline
    Loop patched;                 // its call site is patched, unless the library says otherwise
    bool as_named;                // whether trampoline and target lie as the name says: the linker decides
    std::string why_not_patched;  // empty: `patched` calls the target itself
    bool keeps_trampoline;        // whether `trampoline` does what it says
};

// Both change the target once and back, so that the library has looked for call sites.
Layout near_layout();
Layout page_layout();

// The same call through a trampoline that stays in the slot form. Null where there are no such bytes for this machine.
extern const Loop slot_loop;

// trampoline_loops.cpp
extern const Loop near_trampoline_loop;
extern const Loop page_trampoline_loop;
void call_moving();

}  // namespace bench
