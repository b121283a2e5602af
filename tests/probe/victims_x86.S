// SPDX-License-Identifier: MIT
// Functions to be probed, each in four places: unsigned long f(unsigned long a, unsigned long b, unsigned long zero) returns
// 2 a + 3 b + 7. What is executed twice, or not at all, changes the result or the stack.
//
//     word    the first eight bytes are one aligned word
//     split   the first five bytes lie across two words
//     line    ... across two cache lines
//     page    ... across two pages
    .text

    .macro whole_body
    lea 7(%rdi,%rdi),%rax
    .endm

// Inner boundary: 3.
    .macro guarded1_body
    mov %rdi,%rax
    lea 7(%rdi,%rax),%rax
    .endm

// 1, 4
    .macro guarded2_body
    push %rbx
    .cfi_adjust_cfa_offset 8
    mov %rdi,%rbx
    lea 7(%rdi,%rbx),%rax
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .endm

// 1, 2, 4
    .macro guarded3_body
    push %rbx
    .cfi_adjust_cfa_offset 8
    push %rbp
    .cfi_adjust_cfa_offset 8
    push %r12
    .cfi_adjust_cfa_offset 8
    mov %rdi,%r12
    lea 7(%rdi,%r12),%rax
    pop %r12
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .endm

// 1, 2, 3, 4
    .macro guarded4_body
    push %rbx
    .cfi_adjust_cfa_offset 8
    push %rbp
    .cfi_adjust_cfa_offset 8
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    mov %rdi,%rbx
    lea 7(%rdi,%rbx),%rax
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .endm

// A branch leads to the second instruction, whose first bytes (48 f7) make a distance of -146 MiB.
    .macro punned_body
    mov %rdi,%rax
1:  neg %rax
    inc %rdx
    test $1,%dl
    jnz 1b
    lea 7(%rdi,%rax),%rax
    .endm

    .macro breakpoint_body
    guarded2_body
    .endm

    .macro victim kind, where, align, skip
    .p2align \align
    .skip \skip,0xcc
    .globl victim_\kind\()_\where
    .hidden victim_\kind\()_\where
    .type victim_\kind\()_\where,@function
victim_\kind\()_\where:
    .cfi_startproc
    \kind\()_body
    lea (%rsi,%rsi,2),%rcx
    add %rcx,%rax
    ret
    .cfi_endproc
    .size victim_\kind\()_\where,.-victim_\kind\()_\where
    .endm

    .irp kind,whole,guarded1,guarded2,guarded3,guarded4,punned,breakpoint
    victim \kind,word,6,8
    victim \kind,split,6,5
    victim \kind,line,6,61
    victim \kind,page,12,4093
    .endr

// unsigned long call_stepped(Victim f, unsigned long a, unsigned long b): SIGTRAP after each instruction of f, until a handler
// clears the trap flag.
    .globl call_stepped
    .hidden call_stepped
    .type call_stepped,@function
call_stepped:
    .cfi_startproc
    sub $8,%rsp
    .cfi_adjust_cfa_offset 8
    mov %rdi,%rax
    mov %rsi,%rdi
    mov %rdx,%rsi
    xor %edx,%edx
    pushfq
    .cfi_adjust_cfa_offset 8
    orq $0x100,(%rsp)
    popfq
    .cfi_adjust_cfa_offset -8
    call *%rax
    pushfq
    .cfi_adjust_cfa_offset 8
    andq $~0x100,(%rsp)
    popfq
    .cfi_adjust_cfa_offset -8
    add $8,%rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size call_stepped,.-call_stepped

    .section .note.GNU-stack,"",@progbits
