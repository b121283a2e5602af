// SPDX-License-Identifier: MIT
// Functions that begin as few compilers let them. int f(int) each: 3 x + 1.
#include "functions.inc"

    .arch armv8.5-a

    .text
    // Called directly alone.
    function guarded_plain
    add w0,w0,w0,lsl #1
    add w0,w0,#1
    ret
    end guarded_plain

    // With a landing pad of some kind.
    .macro padded name, kind:vararg
    function \name
    \kind
    add w0,w0,w0,lsl #1
    add w0,w0,#1
    ret
    end \name
    .endm
    padded guarded_bti_c, bti c
    padded guarded_bti_jc, bti jc
    padded guarded_at_times_bti_c, bti c
    padded guarded_at_times_bti_jc, bti jc

    function guarded_paciasp
    paciasp
    .cfi_negate_ra_state
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    bl .Lplain
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    autiasp
    .cfi_negate_ra_state
    ret
    end guarded_paciasp

    // Signs with the other key, and returns with the check.
    function guarded_pacibsp
    pacibsp
    .cfi_b_key_frame
    .cfi_negate_ra_state
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    bl .Lplain
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    retab
    end guarded_pacibsp

    // To guarded_plain, which has no landing pad.
    function guarded_calls_plain
    bti c
    stp x29,x30,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    bl .Lplain
    ldp x29,x30,[sp],#16
    .cfi_def_cfa_offset 0
    ret
    end guarded_calls_plain
    .set .Lplain,guarded_plain

    // What compilers say of their code: it has landing pads (1), and signs (2). Linkers keep what is true of all of an object.
    .section .note.gnu.property,"a",%note
    .p2align 3
    .word 4,16,5                    // name, contents, NT_GNU_PROPERTY_TYPE_0
    .asciz "GNU"
    .word 0xc0000000,4,1|2,0        // GNU_PROPERTY_AARCH64_FEATURE_1_AND

    .section .note.GNU-stack,"",%progbits
