// SPDX-License-Identifier: MIT
// Calls a function with every register as the test says, and says what they are afterwards: nothing in between but two moves.
// struct State (register_state_x86.hpp): 16 general registers in the machine's order, flags, then at 192 what fxsave64 writes, then
// at 704 sixteen registers of 32 bytes.
#include <cet.h>

#define RFLAGS 128
#define FX 192
#define YMM 704

    .text
    .p2align 4
    .globl run_with_state
    .type run_with_state,@function
// void run_with_state(bool with_ymm)
run_with_state:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    push %rbx
    .cfi_def_cfa_offset 24
    push %r12
    .cfi_def_cfa_offset 32
    push %r13
    .cfi_def_cfa_offset 40
    push %r14
    .cfi_def_cfa_offset 48
    push %r15
    .cfi_def_cfa_offset 56
    sub $24,%rsp
    .cfi_def_cfa_offset 80
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    mov %edi,8(%rsp)
    mov %rsp,state_stack(%rip)
    fxrstor64 FX+state_in(%rip)
    test %edi,%edi
    jz 1f
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups YMM+32*\i+state_in(%rip),%ymm\i
    .endr
1:  push RFLAGS+state_in(%rip)
    popfq
    mov 0+state_in(%rip),%rax
    mov 8+state_in(%rip),%rcx
    mov 16+state_in(%rip),%rdx
    mov 24+state_in(%rip),%rbx
    mov 40+state_in(%rip),%rbp
    mov 48+state_in(%rip),%rsi
    mov 56+state_in(%rip),%rdi
    .irp i,8,9,10,11,12,13,14,15
    mov 8*\i+state_in(%rip),%r\i
    .endr
    call *state_target(%rip)
    mov %rax,0+state_out(%rip)
    mov %rcx,8+state_out(%rip)
    mov %rdx,16+state_out(%rip)
    mov %rbx,24+state_out(%rip)
    mov %rsp,32+state_out(%rip)
    mov %rbp,40+state_out(%rip)
    mov %rsi,48+state_out(%rip)
    mov %rdi,56+state_out(%rip)
    .irp i,8,9,10,11,12,13,14,15
    mov %r\i,8*\i+state_out(%rip)
    .endr
    mov state_stack(%rip),%rsp
    pushfq
    pop RFLAGS+state_out(%rip)
    cld
    cmpl $0,8(%rsp)
    je 1f
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups %ymm\i,YMM+32*\i+state_out(%rip)
    .endr
1:  fxsave64 FX+state_out(%rip)
    fninit
    fldcw 4(%rsp)
    ldmxcsr (%rsp)
    add $24,%rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    .cfi_def_cfa_offset 8
    ret
    .cfi_endproc
    .size run_with_state,.-run_with_state

// Functions that change no register and no flag, of instructions that a jump displaces in each of its forms.
    .p2align 4
    .globl quiet_whole
    .type quiet_whole,@function
quiet_whole:
    .cfi_startproc
    nopl 0x100(%rax,%rax,1)
    lea 0(%rax),%rax
    ret
    .cfi_endproc
    .size quiet_whole,.-quiet_whole

    .p2align 4
    .globl quiet_guarded
    .type quiet_guarded,@function
quiet_guarded:
    .cfi_startproc
    mov %rbx,%rbx
    mov %r9,%r9
    lea 0(%rcx),%rcx
    ret
    .cfi_endproc
    .size quiet_guarded,.-quiet_guarded

// A jump backwards to its second instruction, so that only the first can be replaced. It uses the red zone, also across the probe.
    .p2align 4
    .globl quiet_punned, quiet_middle, quiet_red_zone
    .type quiet_punned,@function
quiet_punned:
    .cfi_startproc
    mov %rax,-128(%rsp)
quiet_red_zone:
    mov %rsi,-8(%rsp)
    mov %rdi,%rdi
1:  mov %rdx,%rdx
quiet_middle:
    nop
    mov %r15,%r15
    mov -8(%rsp),%rsi
    mov -128(%rsp),%rax
    ret
    jmp 1b
    .cfi_endproc
    .size quiet_punned,.-quiet_punned

// Uses up what the compiler's functions may: every register that a callee need not keep.
    .p2align 4
    .globl spoil_registers
    .type spoil_registers,@function
spoil_registers:
    .cfi_startproc
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    pcmpeqd %xmm\i,%xmm\i
    .endr
    test %edi,%edi
    jz 1f
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vcmptrueps %ymm\i,%ymm\i,%ymm\i
    .endr
1:  mov $0x1234567,%eax
    mov %rax,%rcx
    mov %rax,%rdx
    mov %rax,%rsi
    mov %rax,%rdi
    mov %rax,%r8
    mov %rax,%r9
    mov %rax,%r10
    mov %rax,%r11
    ret
    .cfi_endproc
    .size spoil_registers,.-spoil_registers

    .section .note.GNU-stack,"",@progbits
