// SPDX-License-Identifier: MIT
// Calls of dynamic functions and the direct calls they compete with, one pair per layout.
#pragma once

#include <cstdint>
#include <string>

namespace bench {

struct Layout {
    // "near": trampoline and target in one page; "page": in different pages. Measured on Zen 4: the jump is free to another
    // line of its page, and costs one cycle to another page as well as within its own cache line.
    const char* name;
    const char* function;  // the dynamic function's qualified name
    void (*direct)(std::uint64_t n);
    void (*dynfunc)(std::uint64_t n);
    bool as_named;  // whether trampoline and target lie as the name says: the linker decides
};

Layout near_layout();
Layout page_layout();

// The same call through a trampoline that stays in the slot form. Null where there are no such bytes for this machine.
using Loop = void (*)(std::uint64_t n);
extern const Loop slot_loop;

}  // namespace bench
