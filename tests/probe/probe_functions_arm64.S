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
    end walk_all
walk_seven: .word 7

    function walk_add
    add w0,w0,w1
    ret
    end walk_add

    // What a compiler makes of a call as early as can be.
    function calls_early
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    adrp x9,call_target
    ldr x9,[x9,:lo12:call_target]
    blr x9
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    ret
    end calls_early

    // Its second instruction is the head of a loop.
    function loops_at_once
    mov w9,#0
1:  add w9,w9,#0xa,lsl #12
    add w9,w9,#0x34
    subs w0,w0,#1
    b.ne 1b
    mov w0,w9
    ret
    end loops_at_once

    // Begins with a landing pad, on a page of its own, of any size: where that is guarded no branch can stand there.
    .section .text.returns_at_once,"ax",%progbits
    .p2align 16
    function returns_at_once
    hint #34                        // bti c
    ret
    end returns_at_once
    .p2align 16
    .text

    // A breakpoint of somebody else's.
    function has_breakpoint
    brk #0
    .globl behind_breakpoint
behind_breakpoint:
    ret
    end has_breakpoint

    // Not movable: a call through the register that gets the return address.
    function far_away
    blr x30
    ret
    end far_away

    .data
    .p2align 3
    .globl call_target
call_target: .quad 0

    .section .note.GNU-stack,"",%progbits
