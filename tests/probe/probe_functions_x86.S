// SPDX-License-Identifier: MIT
// Functions whose bytes the tests know: int f(int) each, with what a jump could go wrong on.
#include <cet.h>

#include "functions.inc"

    .text
    // 3a + 7 by way of a loop, memory relative to the instruction, a call, the red zone, a switch through a table.
    function walk_all
    push %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset rbx,-16
    mov %edi,%ebx
    xor %eax,%eax
    mov $3,%ecx
1:  add %ebx,%eax
    dec %ecx
    jnz 1b
    mov walk_seven(%rip),%edx
    cmpl $7,walk_seven(%rip)
    jne 9f
    mov %eax,%edi
    mov %edx,%esi
    call walk_add
    mov %eax,%edx
    lea walk_table(%rip),%rcx
    mov %ebx,%eax
    and $3,%eax
    movslq (%rcx,%rax,4),%rax
    add %rcx,%rax
    jmp *%rax
2:  inc %edx
    dec %edx
    jmp 6f
3:  nop
    jmp 6f
4:  xchg %eax,%edx
    xchg %eax,%edx
5:  test %eax,%eax
6:  mov %edx,%eax
    pop %rbx
    .cfi_def_cfa_offset 8
    ret
    .cfi_def_cfa_offset 16
9:  mov $-1,%eax
    pop %rbx
    .cfi_def_cfa_offset 8
    ret
    end walk_all

    function walk_add
    mov %edi,-16(%rsp)
    mov %esi,-20(%rsp)
    movd %edi,%xmm5
    mov -16(%rsp),%eax
    add -20(%rsp),%eax
    ret
    end walk_add

    // What a compiler makes of a call as early as can be: the call ends behind the jump's five bytes.
    function calls_early
    sub $8,%rsp
    .cfi_def_cfa_offset 16
    call *call_target(%rip)
    add $8,%rsp
    .cfi_def_cfa_offset 8
    ret
    end calls_early

    // Its second instruction is the head of a loop: nothing but the first can be replaced. Its bytes are a part of the jump's
    // distance then: 05 34 a0 lead 1.5 GiB back, where nothing is (ahead lies the heap).
    function loops_at_once
    xor %eax,%eax
1:  add $0xa034,%eax
    dec %edi
    jnz 1b
    ret
    end loops_at_once

    // One byte, and behind it another function's.
    function returns_at_once
    ret
    end returns_at_once
    .byte 0xc3

    // A breakpoint of somebody else's.
    function has_breakpoint
    int3
    .globl behind_breakpoint
behind_breakpoint:
    ret
    end has_breakpoint

    // Not movable: it pushes its own address in a way that no copy can.
    function far_away
    lcall *(%rax)
    ret
    end far_away

    .data
walk_seven: .long 7
    .globl call_target
call_target: .quad 0
    .section .rodata
    .p2align 2
walk_table: .long 2b-walk_table,3b-walk_table,4b-walk_table,5b-walk_table

    .section .note.GNU-stack,"",@progbits
