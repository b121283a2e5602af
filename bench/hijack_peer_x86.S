// SPDX-License-Identifier: MIT
// The code that a hijacked function's call and return run; hijack_peer.hpp says how. Flags are nobody's at either end of a
// function, so they are not kept. No note says that this goes with shadow stacks, as it does not.

#define FRAME 120

    .macro keep_registers
    push %r15
    push %r14
    push %r13
    push %r12
    push %r11
    push %r10
    push %r9
    push %r8
    push %rbp
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %rbx
    push %rax
    .endm

    .macro restore_registers
    pop %rax
    pop %rbx
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    pop %rbp
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    .endm

    .macro begin_function name
    .p2align 6,0xcc
    .globl \name
    .hidden \name
    .type \name,@function
\name:
    .endm

// In C++: takes an entry for the return address at *rdi and puts the trampoline's there, or counts a miss; takes back the
// entry of the call that ends, which is this thread's last, and returns its address.
    .macro hijack entries

// By the call in the nop's place:    rsp -> where the function goes on, the caller's return address
    begin_function bench_hijack_\entries
    keep_registers
    lea FRAME+8(%rsp),%rdi
    sub $8,%rsp                         // calls need it at a multiple of 16
    call bench_hijack_take_\entries
    add $8,%rsp
    restore_registers
    ret
    .size bench_hijack_\entries,.-bench_hijack_\entries

// By the function's ret:             rsp -> what is above the caller's return address
    begin_function bench_hijack_return_\entries
    lea -8(%rsp),%rsp
    keep_registers
    mov %rsp,%rdi
    call *bench_hijack_on_return(%rip)
    call bench_hijack_give_\entries
    mov %rax,FRAME(%rsp)
    restore_registers
    ret
    .size bench_hijack_return_\entries,.-bench_hijack_return_\entries
    .endm

    .text
    hijack array
    hijack pool
    hijack freelist

    .section .note.GNU-stack,"",@progbits
