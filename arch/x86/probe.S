// SPDX-License-Identifier: MIT
// The code of ProbeCode, in the form of a patched trampoline (dynfunc/detail/site_x86.hpp), on a page of its own: whatever
// start-up does to that page, no other code is on it.
//
//     run:     f3 0f 1e fa    endbr64
//              0f 1f 40 00    nopl 0(%rax)         fills the first word, so that the patched word is the second
//     site:    e9 rel32       jmp first            patched to: jmp second
//              cc cc cc
//     first:   returns 1
//     second:  returns 2
//
// first and second are reached by direct jumps alone and need no landing pad.
#include <cet.h>  // with -fcf-protection: the note that this file keeps its rules

    .section .text.dynfunc_probe,"ax",@progbits
    .p2align 12

    .globl dynfunc_probe_run
    .hidden dynfunc_probe_run
    .type dynfunc_probe_run,@function
dynfunc_probe_run:
    .cfi_startproc
    endbr64
    .byte 0x0f,0x1f,0x40,0x00           // not `nopl 0(%rax)`, which is assembled to three bytes
    .globl dynfunc_probe_site
    .hidden dynfunc_probe_site
    .type dynfunc_probe_site,@function
dynfunc_probe_site:
    .byte 0xe9                          // not `jmp first`, which may be assembled to two bytes
    .long dynfunc_probe_first - . - 4
    .cfi_endproc
    .p2align 3,0xcc
    .size dynfunc_probe_site,.-dynfunc_probe_site
    .size dynfunc_probe_run,.-dynfunc_probe_run

    .p2align 4,0xcc
    .globl dynfunc_probe_first
    .hidden dynfunc_probe_first
    .type dynfunc_probe_first,@function
dynfunc_probe_first:
    .cfi_startproc
    movl $1,%eax
    ret
    .cfi_endproc
    .size dynfunc_probe_first,.-dynfunc_probe_first

    .p2align 4,0xcc
    .globl dynfunc_probe_second
    .hidden dynfunc_probe_second
    .type dynfunc_probe_second,@function
dynfunc_probe_second:
    .cfi_startproc
    movl $2,%eax
    ret
    .cfi_endproc
    .size dynfunc_probe_second,.-dynfunc_probe_second

    .p2align 12,0xcc

    .section .note.GNU-stack,"",@progbits
