// SPDX-License-Identifier: MIT
// Functions to be probed, each in four places: unsigned long f(unsigned long a, unsigned long b, unsigned long zero) returns
// 2 a + 3 b + 7. What is executed twice, or not at all, changes the result or the stack. The first instruction is what is displaced.
//
//     word    it begins an aligned word of eight bytes
//     split   it ends one
//     line    ... and a cache line
//     page    ... and a page of 4 KiB
    .text

    .macro whole_body
    add x3,x0,x0
    add x0,x3,#7
    .endm

    .macro address_body
    adr x3,9f
    ldr x3,[x3]
    add x0,x3,x0,lsl #1
    .endm

    .macro literal_body
    ldr x3,9f
    add x0,x3,x0,lsl #1
    .endm

// Taken, and otherwise wrong.
    .macro branch_body
    cbz x2,1f
    mov x0,#0
    ret
1:  whole_body
    .endm

    .macro bit_body
    tbz x2,#63,1f
    mov x0,#0
    ret
1:  whole_body
    .endm

    .macro pair_body
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x29,-16
    .cfi_offset x30,-8
    mov x29,sp
    whole_body
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    .cfi_restore x29
    .cfi_restore x30
    .endm

    .macro breakpoint_body
    whole_body
    .endm

    .macro victim kind, where, align, skip
    .p2align \align
    .skip \skip
    .globl victim_\kind\()_\where
    .hidden victim_\kind\()_\where
    .type victim_\kind\()_\where,%function
victim_\kind\()_\where:
    .cfi_startproc
    \kind\()_body
    add x1,x1,x1,lsl #1
    add x0,x0,x1
    ret
    .cfi_endproc
    .size victim_\kind\()_\where,.-victim_\kind\()_\where
    .p2align 3
9:  .xword 7
    .endm

    .irp kind,whole,address,literal,branch,bit,pair,breakpoint
    victim \kind,word,6,8
    victim \kind,split,6,4
    victim \kind,line,6,60
    victim \kind,page,12,4092
    .endr

// unsigned long call_stepped(Victim f, unsigned long a, unsigned long b): between two breakpoints for who steps through f
// (stepping_arm64.hpp).
    .p2align 4
    .globl call_stepped
    .hidden call_stepped
    .type call_stepped,%function
call_stepped:
    .cfi_startproc
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x29,-16
    .cfi_offset x30,-8
    mov x29,sp
    mov x9,x0
    mov x0,x1
    mov x1,x2
    mov x2,#0
    brk #0x5701
    blr x9
    brk #0x5702
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    .cfi_restore x29
    .cfi_restore x30
    ret
    .cfi_endproc
    .size call_stepped,.-call_stepped

    .section .note.GNU-stack,"",%progbits
