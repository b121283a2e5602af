// SPDX-License-Identifier: MIT
// The code of ProbeCode, in the form of a patched trampoline (dynfunc/detail/site_arm64.hpp), on 4 KiB of its own. A kernel with
// larger pages has other code of this library on the same page; that code stays as it is and may run meanwhile.
//
//     run = site:  b first                         patched to: b second
//                  nop                             never reached
//     first:       returns 1
//     second:      returns 2

    .section .text.dynfunc_probe,"ax",%progbits
    .p2align 12

    .globl dynfunc_probe_run
    .hidden dynfunc_probe_run
    .type dynfunc_probe_run,%function
dynfunc_probe_run:
    .cfi_startproc
    b dynfunc_probe_first
    nop
    .cfi_endproc
    .size dynfunc_probe_run,.-dynfunc_probe_run

    .p2align 4
    .globl dynfunc_probe_first
    .hidden dynfunc_probe_first
    .type dynfunc_probe_first,%function
dynfunc_probe_first:
    .cfi_startproc
    mov w0,#1
    ret
    .cfi_endproc
    .size dynfunc_probe_first,.-dynfunc_probe_first

    .p2align 4
    .globl dynfunc_probe_second
    .hidden dynfunc_probe_second
    .type dynfunc_probe_second,%function
dynfunc_probe_second:
    .cfi_startproc
    mov w0,#2
    ret
    .cfi_endproc
    .size dynfunc_probe_second,.-dynfunc_probe_second

    .p2align 12

    .section .note.GNU-stack,"",%progbits
