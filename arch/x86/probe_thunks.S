// SPDX-License-Identifier: MIT
// What stubs share: keeping vector registers, and leaving for where a handler wants the thread to go on.
#include <cet.h>  // with -fcf-protection: the note that this file keeps its rules

// Of dynfunc/detail/registers_x86.hpp.
#define REGISTERS_RAX 0
#define REGISTERS_RCX 8
#define REGISTERS_RDX 16
#define REGISTERS_RBX 24
#define REGISTERS_RSI 32
#define REGISTERS_RDI 40
#define REGISTERS_R8 48
#define REGISTERS_R9 56
#define REGISTERS_R10 64
#define REGISTERS_R11 72
#define REGISTERS_R12 80
#define REGISTERS_R13 88
#define REGISTERS_R14 96
#define REGISTERS_R15 104
#define REGISTERS_RSP 112
#define REGISTERS_RFLAGS 120
#define REGISTERS_VECTORS 128
#define REGISTERS_VECTOR_BYTES 136
#define REGISTERS_RBP 144
#define REGISTERS_RIP 152
#define STUB_FRAME 288

#define FIRST_16 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
#define LAST_16 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31

#define LOAD_ALL_BUT_RDI(from) \
    mov REGISTERS_RAX(from),%rax; \
    mov REGISTERS_RCX(from),%rcx; \
    mov REGISTERS_RDX(from),%rdx; \
    mov REGISTERS_RBX(from),%rbx; \
    mov REGISTERS_RSI(from),%rsi; \
    mov REGISTERS_RBP(from),%rbp; \
    mov REGISTERS_R8(from),%r8; \
    mov REGISTERS_R9(from),%r9; \
    mov REGISTERS_R10(from),%r10; \
    mov REGISTERS_R11(from),%r11; \
    mov REGISTERS_R12(from),%r12; \
    mov REGISTERS_R13(from),%r13; \
    mov REGISTERS_R14(from),%r14; \
    mov REGISTERS_R15(from),%r15

    .section dynfunc_hot,"ax",@progbits

// void NAME(void (*run)(void*, Registers*), void* a, Registers* registers)
// The area at rsp: vector registers, mask registers, and 4 bytes of MXCSR.
    .macro begin_vectors name, vector_bytes, area
    .p2align 4
    .globl \name
    .hidden \name
    .type \name,@function
\name:
    .cfi_startproc
    endbr64
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp,-16
    mov %rsp,%rbp
    .cfi_def_cfa_register rbp
    push %rbx
    .cfi_offset rbx,-24
    sub $\area+8,%rsp
    and $-64,%rsp
    stmxcsr \area(%rsp)
    mov %rdx,%rbx
    mov %rsp,REGISTERS_VECTORS(%rdx)
    movq $\vector_bytes,REGISTERS_VECTOR_BYTES(%rdx)
    .endm

    .macro call_run
    mov %rdi,%rax
    mov %rsi,%rdi
    mov %rdx,%rsi
    call *%rax
    .endm

    .macro end_vectors name, area
    movq $0,REGISTERS_VECTORS(%rbx)
    // Written unasked: to read it again and compare takes longer (measured: 4 ns against 10).
    ldmxcsr \area(%rsp)
    lea -8(%rbp),%rsp
    pop %rbx
    pop %rbp
    .cfi_def_cfa rsp,8
    ret
    .cfi_endproc
    .size \name,.-\name
    .endm

    begin_vectors dynfunc_with_sse,16,256
    .irp i,FIRST_16
    movaps %xmm\i,16*\i(%rsp)
    .endr
    call_run
    .irp i,FIRST_16
    movaps 16*\i(%rsp),%xmm\i
    .endr
    end_vectors dynfunc_with_sse,256

    begin_vectors dynfunc_with_avx,32,512
    .irp i,FIRST_16
    vmovaps %ymm\i,32*\i(%rsp)
    .endr
    vzeroupper
    call_run
    .irp i,FIRST_16
    vmovaps 32*\i(%rsp),%ymm\i
    .endr
    end_vectors dynfunc_with_avx,512

    .macro with_avx512 name, kmov
    begin_vectors \name,64,2112
    .irp i,FIRST_16,LAST_16
    vmovaps %zmm\i,64*\i(%rsp)
    .endr
    .irp i,0,1,2,3,4,5,6,7
    \kmov %k\i,2048+8*\i(%rsp)
    .endr
    vzeroupper
    call_run
    .irp i,0,1,2,3,4,5,6,7
    \kmov 2048+8*\i(%rsp),%k\i
    .endr
    .irp i,FIRST_16,LAST_16
    vmovaps 64*\i(%rsp),%zmm\i
    .endr
    end_vectors \name,2112
    .endm

    with_avx512 dynfunc_with_avx512,kmovq
    with_avx512 dynfunc_with_avx512f,kmovw  // processors whose mask registers have 16 bits

// [[noreturn]] void dynfunc_probe_leave(Registers*): the registers lie at the end of the stub's frame.
// A thread that is to return from the function finds its return address below the new stack pointer: an ordinary return. Any
// other way to change both the stack pointer and where to go on, with all registers as they are to be, and the red zone left
// alone, is iret.
    .p2align 4
    .globl dynfunc_probe_leave
    .hidden dynfunc_probe_leave
    .type dynfunc_probe_leave,@function
dynfunc_probe_leave:
    .cfi_startproc
    .cfi_undefined rip
    endbr64
    mov %rdi,%rsp
    mov REGISTERS_RSP(%rsp),%rax
    lea STUB_FRAME(%rsp),%rcx
    cmp %rcx,%rax
    jb 2f
    mov REGISTERS_RIP(%rsp),%rcx
    cmp %rcx,-8(%rax)
    jne 2f
    push REGISTERS_RFLAGS(%rsp)
    popfq
    LOAD_ALL_BUT_RDI(%rsp)
    mov REGISTERS_RDI(%rsp),%rdi
    mov REGISTERS_RSP(%rsp),%rsp
    lea -8(%rsp),%rsp
    ret
2:  mov %rsp,%rdi
    mov %ss,%eax
    push %rax
    push REGISTERS_RSP(%rdi)
    push REGISTERS_RFLAGS(%rdi)
    mov %cs,%eax
    push %rax
    push REGISTERS_RIP(%rdi)
    LOAD_ALL_BUT_RDI(%rdi)
    mov REGISTERS_RDI(%rdi),%rdi
    iretq
    .cfi_endproc
    .size dynfunc_probe_leave,.-dynfunc_probe_leave

    .section .note.GNU-stack,"",@progbits
