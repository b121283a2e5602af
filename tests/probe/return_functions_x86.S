// SPDX-License-Identifier: MIT
// Functions of return_functions.hpp whose instructions the tests know.
#include <cet.h>

#include "functions.inc"

    .text
    function return_tail_first
    lea 1(%rdi),%rdi
    nop
    jmp return_tail_second
    end return_tail_first

    function return_tail_second
    lea 1(%rdi,%rdi),%rax
    ret
    end return_tail_second

    function return_tail_around
    mov %rdi,%rax
    mov %rsi,%rdi
    jmp *%rax
    end return_tail_around

    function return_tail_deep
    test %rdi,%rdi
    jz 1f
    dec %rdi
    jmp return_tail_deep
1:  mov %rsi,%rax
    mov %rdx,%rdi
    jmp *%rax
    end return_tail_deep

    function return_wait
    mov (%rdi),%rax
    nopl 0x100(%rax,%rax,1)
1:  pause
    incq 8(%rdi)
    mov (%rdi),%rax
    test %rax,%rax
    jz 1b
    ret
    end return_wait

    function return_keeps_registers
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx,0
    push %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp,0
    push %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12,0
    push %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13,0
    push %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14,0
    push %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15,0
    push %rdi
    .cfi_adjust_cfa_offset 8
    mov $0x11111111,%ebx
    mov $0x22222222,%ebp
    mov $0x33333333,%r12d
    mov $0x44444444,%r13d
    mov $0x55555555,%r14d
    mov $0x66666666,%r15d
    mov %rdi,%rax
    mov %rsi,%rdi
    mov %rdx,%rsi
    call *%rax
    cmp $0x11111111,%rbx
    jne 1f
    cmp $0x22222222,%rbp
    jne 1f
    cmp $0x33333333,%r12
    jne 1f
    cmp $0x44444444,%r13
    jne 1f
    cmp $0x55555555,%r14
    jne 1f
    cmp $0x66666666,%r15
    je 2f
1:  mov $-1,%rax
2:  pop %rdi
    .cfi_adjust_cfa_offset -8
    pop %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    pop %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    pop %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    pop %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    pop %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    ret
    end return_keeps_registers

    .globl return_bare_slot
    .type return_bare_slot,@function
return_bare_slot:
    pop return_bare_caller(%rip)
    call return_around@PLT
    push return_bare_caller(%rip)
    ret
    .size return_bare_slot,.-return_bare_slot
    .local return_bare_caller
    .comm return_bare_caller,8,8

    function return_stub_of_linker
    lea strverscmp@PLT(%rip),%rax
    ret
    end return_stub_of_linker

    function return_overwrite_stack
    neg %rdi
    mov $0x5a5a5a5a,%eax
1:  mov %rax,(%rsp,%rdi)
    add $8,%rdi
    jnz 1b
    ret
    end return_overwrite_stack

    .section .note.GNU-stack,"",@progbits
