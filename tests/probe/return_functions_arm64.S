// SPDX-License-Identifier: MIT
// Functions of return_functions.hpp whose instructions the tests know.
#include "functions.inc"

    .text
    function return_tail_first
    add x0,x0,#1
    b return_tail_second
    end return_tail_first

    function return_tail_second
    lsl x0,x0,#1
    add x0,x0,#1
    ret
    end return_tail_second

    function return_tail_around
    mov x9,x0
    mov x0,x1
    br x9
    end return_tail_around

    function return_tail_deep
    cbz x0,1f
    sub x0,x0,#1
    b return_tail_deep
1:  mov x9,x1
    mov x0,x2
    br x9
    end return_tail_deep

    function return_wait
    ldr x9,[x0]
1:  yield
    ldr x10,[x0,#8]
    add x10,x10,#1
    str x10,[x0,#8]
    ldar x9,[x0]
    cbz x9,1b
    mov x0,x9
    ret
    end return_wait

    function return_keeps_registers
    stp x29,x30,[sp,#-96]!
    .cfi_def_cfa_offset 96
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    stp x19,x20,[sp,#16]
    stp x21,x22,[sp,#32]
    stp x23,x24,[sp,#48]
    stp x25,x26,[sp,#64]
    stp x27,x28,[sp,#80]
    .irp i,19,20,21,22,23,24,25,26,27,28
    .cfi_rel_offset x\i,16+8*(\i-19)
    .endr
    .irp i,19,20,21,22,23,24,25,26,27,28
    mov x\i,#0x1111*\i/7
    .endr
    mov x9,x0
    mov x0,x1
    mov x1,x2
    blr x9
    .irp i,19,20,21,22,23,24,25,26,27,28
    mov x9,#0x1111*\i/7
    cmp x\i,x9
    b.ne 1f
    .endr
    b 2f
1:  mov x0,#-1
2:  ldp x19,x20,[sp,#16]
    ldp x21,x22,[sp,#32]
    ldp x23,x24,[sp,#48]
    ldp x25,x26,[sp,#64]
    ldp x27,x28,[sp,#80]
    ldp x29,x30,[sp],#96
    .cfi_def_cfa_offset 0
    ret
    end return_keeps_registers

    .globl return_bare_slot
    .type return_bare_slot,%function
return_bare_slot:
    adrp x9,return_bare_caller
    str x30,[x9,:lo12:return_bare_caller]
    bl return_around
    adrp x9,return_bare_caller
    ldr x30,[x9,:lo12:return_bare_caller]
    ret
    .size return_bare_slot,.-return_bare_slot
    .local return_bare_caller
    .comm return_bare_caller,8,8

    function return_stub_of_linker
    adr x0,1f
    ldr w9,[x0]
    sbfiz x9,x9,#2,#26
    add x0,x0,x9
    ret
1:  bl strverscmp
    end return_stub_of_linker

    function return_overwrite_stack
    mov w9,#0x5a5a
    sub x10,sp,x0
1:  str x9,[x10],#8
    cmp sp,x10
    b.hi 1b
    ret
    end return_overwrite_stack

    .section .note.GNU-stack,"",%progbits
