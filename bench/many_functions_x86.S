// SPDX-License-Identifier: MIT
// Very many functions for the bench "many_probes": int f(int x) that returns x plus its number. They begin in the ways that
// compilers have: room on the stack, a frame pointer, a landing pad, registers to keep. Each has unwind information.
#define COUNT 173000

    .altmacro
    .macro one n
    .p2align 4
function\n:
    .cfi_startproc
    .if \n % 4 == 0
    sub $136,%rsp
    .cfi_def_cfa_offset 144
    lea \n(%rdi),%eax
    add $136,%rsp
    .cfi_def_cfa_offset 8
    .elseif \n % 4 == 1
    push %rbp
    .cfi_def_cfa_offset 16
    mov %rsp,%rbp
    lea \n(%rdi),%eax
    pop %rbp
    .cfi_def_cfa_offset 8
    .elseif \n % 4 == 2
    endbr64
    mov $\n,%eax
    add %edi,%eax
    .else
    push %rbx
    .cfi_def_cfa_offset 16
    mov %edi,%ebx
    lea \n(%rbx),%eax
    pop %rbx
    .cfi_def_cfa_offset 8
    .endif
    ret
    .cfi_endproc
    .pushsection .data.rel.ro,"aw"
    .quad function\n
    .popsection
    .endm

    .section .data.rel.ro,"aw"
    .globl many_functions
    .type many_functions,@object
many_functions:
    .text
    .set i,0
    .rept COUNT
    one %i
    .set i,i+1
    .endr
    .section .data.rel.ro,"aw"
    .size many_functions,.-many_functions
    .globl many_functions_end
    .type many_functions_end,@object
    .size many_functions_end,0
many_functions_end:
    .section .note.GNU-stack,"",@progbits
