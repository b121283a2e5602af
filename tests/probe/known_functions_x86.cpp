// SPDX-License-Identifier: MIT
#include "known_functions.hpp"

extern "C" const char inspect_whole[], inspect_guarded[], inspect_punned[], inspect_punned_head[], inspect_breakpoint[],
    inspect_not_movable[], inspect_no_instruction[], inspect_no_unwind[], inspect_other_entry[];
asm(R"(
    .pushsection .text.inspect, "ax", @progbits
    .macro inspect_begin name
    .globl \name
    .type \name, @function
\name:
    .cfi_startproc
    .endm
    .macro inspect_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

    .p2align 4
    inspect_begin inspect_whole
    mov $1, %eax
    ret
    inspect_end inspect_whole

    inspect_begin inspect_guarded
    xor %eax, %eax
    inc %eax
    .type inspect_other_entry, @function
    .globl inspect_other_entry
inspect_other_entry:
    mov $2, %eax
    ret
    inspect_end inspect_guarded

    inspect_begin inspect_punned
    xor %eax, %eax
    .globl inspect_punned_head
inspect_punned_head:
1:  inc %eax
    dec %edi
    jnz 1b
    ret
    inspect_end inspect_punned

    inspect_begin inspect_breakpoint
    ret
    inspect_end inspect_breakpoint

    inspect_begin inspect_not_movable
    call *%rsp
    ret
    nop
    nop
    inspect_end inspect_not_movable

    inspect_begin inspect_no_instruction
    .byte 0x06, 0x90, 0x90, 0x90, 0x90
    ret
    inspect_end inspect_no_instruction

    .globl inspect_no_unwind
    .type inspect_no_unwind, @function
inspect_no_unwind:
    mov $3, %eax
    ret
    .size inspect_no_unwind, . - inspect_no_unwind
    .popsection
)");

namespace dynfunc::test {

std::vector<Known> known_functions() {
    const auto at = [](const char* label) { return Address::of(label); };
    return {
        {"inspect_whole", at(inspect_whole), 6, SiteClass::whole},
        {"inspect_guarded", at(inspect_guarded), 10, SiteClass::guarded, Errc::too_short, at(inspect_guarded)},
        {"inspect_other_entry", at(inspect_other_entry), 6, SiteClass::whole},
        {"inspect_punned", at(inspect_punned), 9, SiteClass::punned, Errc::branch_inside, at(inspect_punned_head)},
        {"inspect_breakpoint", at(inspect_breakpoint), 1, SiteClass::breakpoint, Errc::too_short, at(inspect_breakpoint)},
        {"inspect_not_movable", at(inspect_not_movable), 5, SiteClass::refused, Errc::not_movable, at(inspect_not_movable)},
        {"inspect_no_instruction", at(inspect_no_instruction), 6, SiteClass::refused, Errc::not_an_instruction,
         at(inspect_no_instruction)},
        {"inspect_no_unwind", at(inspect_no_unwind), 6, SiteClass::breakpoint, Errc::no_unwind_entry, at(inspect_no_unwind)},
    };
}

}  // namespace dynfunc::test
