// SPDX-License-Identifier: MIT
// Loops of load-exclusive and store-exclusive.
#include "functions.inc"

    .text
    // long f(long* to, long n): *to += n; what it is then.
    function exclusive_add
    nop
1:  ldaxr x9,[x0]
    add x9,x9,x1
    stlxr w10,x9,[x0]
    cbnz w10,1b
    mov x0,x9
    ret
    end exclusive_add

    // The same, but that no other exclusive access may succeed between its own: what a probe there does, or a breakpoint's
    // return. It gives up after x2 attempts: how many were left.
    function exclusive_add_interrupted
    sub sp,sp,#16
    .cfi_def_cfa_offset 16
1:  ldaxr x9,[x0]
    add x9,x9,x1
    ldxr x11,[sp]
    stxr w12,x11,[sp]
    stlxr w10,x9,[x0]
    cbz w10,2f
    sub x2,x2,#1
    cbnz x2,1b
2:  add sp,sp,#16
    .cfi_def_cfa_offset 0
    mov x0,x2
    ret
    end exclusive_add_interrupted

    .section .note.GNU-stack,"",%progbits
