// SPDX-License-Identifier: MIT
// One instruction is as long as another: no place is too short, and none is punned.
#include "known_functions.hpp"

extern "C" const char inspect_whole[], inspect_other_entry[], inspect_loop[], inspect_not_movable[], inspect_no_unwind[];
asm(R"(
    .pushsection .text.inspect, "ax", %progbits
    .macro inspect_begin name
    .globl \name
    .type \name, %function
\name:
    .cfi_startproc
    .endm
    .macro inspect_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

    .p2align 4
    inspect_begin inspect_whole
    mov w0, #1
    .type inspect_other_entry, %function
    .globl inspect_other_entry
inspect_other_entry:
    mov w0, #2
    ret
    inspect_end inspect_whole

    inspect_begin inspect_loop
    sub w0, w0, #1
    cbnz w0, inspect_loop
    ret
    inspect_end inspect_loop

    inspect_begin inspect_not_movable
    blr x30
    ret
    inspect_end inspect_not_movable

    .globl inspect_no_unwind
    .type inspect_no_unwind, %function
inspect_no_unwind:
    mov w0, #3
    ret
    .size inspect_no_unwind, . - inspect_no_unwind
    .popsection
)");

namespace dynfunc::test {

std::vector<Known> known_functions() {
    const auto at = [](const char* label) { return Address::of(label); };
    return {
        {"inspect_whole", at(inspect_whole), 12, SiteClass::whole},
        {"inspect_other_entry", at(inspect_other_entry), 8, SiteClass::whole},
        {"inspect_loop", at(inspect_loop), 12, SiteClass::whole},
        {"inspect_not_movable", at(inspect_not_movable), 8, SiteClass::refused, Errc::not_movable, at(inspect_not_movable)},
        {"inspect_no_unwind", at(inspect_no_unwind), 8, SiteClass::breakpoint, Errc::no_unwind_entry, at(inspect_no_unwind)},
    };
}

}  // namespace dynfunc::test
