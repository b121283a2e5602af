// SPDX-License-Identifier: MIT
// Functions whose instructions the tests know: int f(int) each.
#include "functions.inc"

    .text
    // 3a + 7 by way of a loop, memory relative to the instruction, and a call.
    function walk_all
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    mov w9,#0
    mov w10,#3
1:  add w9,w9,w0
    subs w10,w10,#1
    b.ne 1b
    ldr w1,walk_seven
    mov w0,w9
    bl walk_add
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    ret
walk_seven: .word 7
    end walk_all

    function walk_add
    add w0,w0,w1
    ret
    end walk_add

    // One instruction.
    function returns_at_once
    ret
    end returns_at_once

    .section .note.GNU-stack,"",%progbits
