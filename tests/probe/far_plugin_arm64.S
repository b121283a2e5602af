// SPDX-License-Identifier: MIT
// Code as far apart as branches reach. The linker puts the sections where meson.build says; what is between them is mapped by the
// dynamic linker, and nobody's, so that a stub finds room only outside of the object:
//
//     object's begin | 1 MiB | far_low | 64 MiB | far_middle | 64 MiB - 64 | far_high | object's end
#include "functions.inc"

    .section .far_low,"ax",%progbits
    // int f(int): 2 x + 1. The call leads as far as it can, but for 56 bytes.
    function far_calls
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    .globl far_call
far_call:
    bl .Ltarget
    add w0,w0,#1
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    ret
    end far_calls
    // int f(int): 2 x.
    function far_jumps
    nop
    .globl far_jump
far_jump:
    b .Ltarget
    end far_jumps

    .section .far_high,"ax",%progbits
    function far_target
.Ltarget:
    add w0,w0,w0
    ret
    end far_target

    .section .far_middle,"ax",%progbits
    // void f(Loaded*): loads of every kind, with x16 and x17 in use.
    function far_loads
    mov x16,#0x1616
    mov x17,#0x1717
    .globl far_loads_begin
far_loads_begin:
    ldr q0,far_literal
    ldr d1,far_literal
    ldr s2,far_literal
    prfm pldl1keep,far_literal
    ldr xzr,far_literal
    ldr wzr,far_literal
    ldrsw xzr,far_literal
    ldr x3,far_literal
    ldr w4,far_literal
    ldrsw x5,far_literal
    adr x6,far_literal
    adrp x7,far_literal
    .globl far_loads_end
far_loads_end:
    stp x3,x4,[x0]
    stp x5,x6,[x0,#16]
    stp x7,x16,[x0,#32]
    stp x17,xzr,[x0,#48]
    str q0,[x0,#64]
    str d1,[x0,#80]
    str s2,[x0,#88]
    ret
    end far_loads
    .p2align 4
far_literal:
    .quad 0x8182838485868788, 0x9192939495969798

    // void f(unsigned long to[3]): the literal is on pages of its own.
    function far_faults
    mov x16,#0x1616
    .globl far_faulting_load
far_faulting_load:
    ldr q0,.Lfaulting_literal
    str q0,[x0]
    str x16,[x0,#16]
    ret
    end far_faults

    .p2align 16
    .globl far_faulting_literal
far_faulting_literal:
.Lfaulting_literal:
    .quad 0x1122334455667788, 0x99aabbccddeeff00
    .p2align 16

    .section .note.GNU-stack,"",%progbits
