// SPDX-License-Identifier: MIT
// What stubs share: handing a hit on, keeping vector registers, and leaving for where a handler wants the thread to go on.
#include <cet.h>  // with -fcf-protection: the note that this file keeps its rules

#include "offsets.inc"
#include "pool_sequence.inc"

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

// bool dynfunc_probe_hit(HitSite*, Registers*): see lib/probe/hit.hpp, which checks the numbers below. It may use every register
// but rbp and rsp: the stub has saved them all. An exception that leaves a handler finds an empty table of calls, and terminates.

    // Every consumer of the list from r15 to rbx, with the counters at r12 and the ProbeHit at rsp.
    .macro deliver
1:  mov ENTRY_IS_DISABLED(%r15),%rax
    mov ENTRY_DATA(%r15),%rdi
    cmpb $0,(%rax)
    jne 3f
    mov ENTRY_FILTER(%r15),%rax
    mov %rdi,HIT_DATA(%rsp)
    test %rax,%rax
    jnz 5f
2:  mov ENTRY_CHUNK_AT(%r15),%eax
    mov (%r12,%rax),%rax
    mov ENTRY_SLOT_AT(%r15),%ecx
    test %rax,%rax
    jz 6f
    incq (%rax,%rcx)                    // of this thread alone
4:  mov %rsp,%rdi
    call *ENTRY_ON_HIT(%r15)
    cmp $1,%al
    je 7f
3:  cmp %rbx,%r15
    lea ENTRY_BYTES(%r15),%r15
    jne 1b
    jmp 8f
5:  call *%rax
    test %al,%al
    jnz 2b
    jmp 3b
6:  lea dynfunc_make_hit_chunk(%rip),%rdi
    mov %r15,%rsi
    call call_any
    mov ENTRY_CHUNK_AT(%r15),%eax
    mov (%r12,%rax),%rax
    mov ENTRY_SLOT_AT(%r15),%ecx
    test %rax,%rax
    jz 4b                               // without memory for the counter the hit is not counted
    incq (%rax,%rcx)
    jmp 4b
7:  lea dynfunc_disable_after_hit(%rip),%rdi
    mov %r15,%rsi
    call call_any
    jmp 3b
8:
    .endm

    // The call at whose begin the registers at rsi were saved is to be seen when it returns. Before: the word at rdx, its stack
    // pointer, is the address to which the function returns. After: it is r10, the place of return in the slot of the record r8;
    // the record keeps what was there before it. In this order a collector (lib/probe/return_records.cpp) sees a record lead to
    // its word, or the word still unchanged. The body at r9 is that of the last call with this record, mostly.
    .macro track
    mov (%rdx),%rax
    cmp %r9,RECORD_BODY(%r8)
    je .Lsame_body\@
    mov %r9,RECORD_BODY(%r8)
.Lsame_body\@:
    mov %rax,RECORD_RETURN_TO(%r8)
    mov RECORD_STATE(%r8),%rax
    mov %rdx,RECORD_STACK_WORD(%r8)
    add $ONE_CALL+PHASE_ENTERING,%rax
    lea SLOT_RETURN-SLOT_TO_RECORD(%r8),%r10
    mov %rax,RECORD_STATE(%r8)
    mov %r10,(%rdx)
    add $PHASE_ACTIVE-PHASE_ENTERING,%rax
    mov %rax,RECORD_STATE(%r8)
    .endm

    .p2align 6
    .globl dynfunc_probe_hit
    .hidden dynfunc_probe_hit
    .type dynfunc_probe_hit,@function
dynfunc_probe_hit:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls
    .cfi_undefined rbx
    .cfi_undefined r12
    .cfi_undefined r13
    .cfi_undefined r14
    .cfi_undefined r15
    endbr64
.Lagain:
    mov dynfunc_thread_work@gottpoff(%rip),%rax
    mov dynfunc_hit_counts@gottpoff(%rip),%rcx
    mov _ZN7dynfunc6detail11reader_wordE@gottpoff(%rip),%rdx
    mov dynfunc_delivery@gottpoff(%rip),%r8
    cmpl $0,%fs:(%rax)
    jne .Lmiss
    cmpq $0,%fs:DELIVERY_AT(%r8)
    jne .Ldelivering
    sub $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset HIT_FRAME
    mov %fs:(%rcx),%r12
    mov %fs:(%rdx),%r13
    mov %rsi,HIT_REGISTERS(%rsp)
    mov %rdi,HIT_SITE(%rsp)
    movq $0,REGISTERS_VECTORS(%rsi)
    test %r12,%r12
    jz .Lregister
    test %r13,%r13
    jz .Lregister
    // What is to be undone is known before one store says that there is something, and where (forget_left_hit()).
    mov (%r13),%r14
    mov %r14,%fs:DELIVERY_OUTER(%r8)
    mov %rsi,%fs:DELIVERY_AT(%r8)
    // A ReadSection (dynfunc/grace_period.hpp): (B).
.Lopen:
    test %r14,%r14
    jnz .Lopened
    mov _ZN7dynfunc6detail14current_periodE@GOTPCREL(%rip),%rax
    mov (%rax),%rax
    mov %rax,(%r13)
.Lopened:
    mov _ZN7dynfunc6detail13readers_fenceE@GOTPCREL(%rip),%rax
    cmpb $0,(%rax)
    jne .Lfence
.Lread:
    mov SITE_CONSUMERS(%rdi),%rbx
    mov SITE_AT(%rdi),%rcx
    test %rbx,%rbx
    jz .Lclose
    cmpb $0,LIST_IS_ONE_RETURN(%rbx)
    jne .Lone_return
.Lany_list:
    mov COUNTS_ERRNO_AT(%r12),%rax
    mov %rcx,HIT_AT(%rsp)
    mov (%rax),%eax
    movq $0,HIT_TRACKED(%rsp)
    mov %eax,HIT_ERRNO(%rsp)
    cmpb $0,LIST_NEEDS_VECTORS(%rbx)
    jne .Lvectors
    lea LIST_ENTRIES(%rbx),%r15
    mov LIST_LAST(%rbx),%rbx
    deliver
.Ldelivered:
    mov COUNTS_ERRNO_AT(%r12),%rax
    mov HIT_ERRNO(%rsp),%ecx
    cmp %ecx,(%rax)
    jne .Lerrno_changed
.Lerrno_is_right:
    mov HIT_TRACKED(%rsp),%r8
    mov HIT_REGISTERS(%rsp),%rsi
    mov HIT_AT(%rsp),%rcx
    test %r8,%r8
    jnz .Ltracked
.Lclose:
    mov %r14,(%r13)                     // (D)
    mov dynfunc_delivery@gottpoff(%rip),%rax
    movq $0,%fs:DELIVERY_AT(%rax)
    lea STUB_FRAME(%rsi),%rdx
    xor REGISTERS_RIP(%rsi),%rcx
    xor REGISTERS_RSP(%rsi),%rdx
    or %rcx,%rdx
    setne %al
    add $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset -HIT_FRAME
    ret
    .cfi_adjust_cfa_offset HIT_FRAME
.Ltracked:
    lea STUB_FRAME(%rsi),%rdx
    cmp %rdx,REGISTERS_RSP(%rsi)
    jne .Lnot_called
    mov HIT_SITE(%rsp),%rdi
    mov SITE_COPY(%rdi),%r9
    mov dynfunc_delivery@gottpoff(%rip),%r11
1:  mov RECORD_NEXT(%r8),%rdi
    mov %rdi,%fs:DELIVERY_TRACKED(%r11)
    track
    mov %rdi,%r8
    test %r8,%r8
    jnz 1b
.Lgo:
    cmp %rcx,REGISTERS_RIP(%rsi)
    jne .Lclose                         // another function instead: it returns to the slot
    mov %r14,(%r13)                     // (D)
    mov dynfunc_delivery@gottpoff(%rip),%rax
    movq $0,%fs:DELIVERY_AT(%rax)
    lea -SLOT_RETURN(%r10),%rdx
    mov $GO_TO_SLOT,%eax
    add $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset -HIT_FRAME
    ret
    .cfi_adjust_cfa_offset HIT_FRAME
.Lerrno_changed:
    mov %ecx,(%rax)
    jmp .Lerrno_is_right
.Lnot_called:
    mov dynfunc_delivery@gottpoff(%rip),%rax
    movq $0,%fs:DELIVERY_TRACKED(%rax)
    lea dynfunc_forget_tracked(%rip),%rdi
    mov %r8,%rsi
    call call_any
.Lnothing_to_track:
    mov HIT_SITE(%rsp),%rdi
    mov HIT_REGISTERS(%rsp),%rsi
    mov SITE_AT(%rdi),%rcx
    jmp .Lclose
// Nobody else listens: dynfunc_return_entry (return_slots.S) without what a list needs. rbx is the list, then the record.
.Lone_return:
    mov LIST_ENTRIES+ENTRY_IS_DISABLED(%rbx),%rax
    mov LIST_ENTRIES+ENTRY_DATA(%rbx),%r15
    cmpb $0,(%rax)
    jne .Lclose
    mov LIST_ENTRIES+ENTRY_CHUNK_AT(%rbx),%eax
    mov (%r12,%rax),%rax
    mov LIST_ENTRIES+ENTRY_SLOT_AT(%rbx),%edx
    test %rax,%rax
    jz .Lany_list
    incq (%rax,%rdx)
    mov HANDLERS_POOL(%r15),%rsi
    pop_object
.Lone_popped:
    mov (%rdi),%rbx
    mov HANDLERS_ON_ENTRY(%r15),%rax
    test %rax,%rax
    jz .Lone_tracked
    mov COUNTS_ERRNO_AT(%r12),%rcx
    mov dynfunc_delivery@gottpoff(%rip),%rdx
    mov RECORD_DATA(%rbx),%rdi
    mov (%rcx),%ecx
    mov HIT_REGISTERS(%rsp),%rsi
    mov %rbx,%fs:DELIVERY_POPPED(%rdx)
    mov %ecx,HIT_ERRNO(%rsp)
    call *%rax
    mov COUNTS_ERRNO_AT(%r12),%rdx
    mov HIT_ERRNO(%rsp),%ecx
    cmp %ecx,(%rdx)
    jne .Lone_errno_changed
.Lone_asked:
    mov dynfunc_delivery@gottpoff(%rip),%rcx
    test %al,%al
    movq $0,%fs:DELIVERY_POPPED(%rcx)
    jz .Lone_skipped
.Lone_tracked:
    mov HIT_REGISTERS(%rsp),%rsi
    mov HIT_SITE(%rsp),%rdi
    lea STUB_FRAME(%rsi),%rdx
    mov %rbx,%r8
    cmp %rdx,REGISTERS_RSP(%rsi)
    jne .Lone_skipped
    mov SITE_COPY(%rdi),%r9
    mov SITE_AT(%rdi),%rcx
    track
    jmp .Lgo
.Lone_errno_changed:
    mov %ecx,(%rdx)
    jmp .Lone_asked
    ways_out .Lone_pop_otherwise
.Lone_skipped:
    mov RECORD_OBJECT(%rbx),%rdi
    mov HANDLERS_POOL(%r15),%rsi
    push_object
    jmp .Lnothing_to_track
    ways_out .Lone_push_otherwise
// What these give and take lies where a list would keep what it tracks: handlers, instance.
.Lone_pop_otherwise:
    lea dynfunc_pop_instance(%rip),%rdi
    lea HIT_TRACKED(%rsp),%rsi
    mov %r15,(%rsi)
    call call_any
    mov HIT_LAST_TRACKED(%rsp),%rdi
    test %rdi,%rdi
    jnz .Lone_popped
    jmp .Lnothing_to_track
.Lone_push_otherwise:
    lea HIT_TRACKED(%rsp),%rsi
    mov %r15,(%rsi)
    mov %rdi,8(%rsi)
    lea dynfunc_push_instance(%rip),%rdi
    call call_any
    jmp .Lnothing_to_track
.Lvectors:
    lea deliver_with_vectors(%rip),%rdi
    mov %rsp,%rsi
    mov HIT_REGISTERS(%rsp),%rdx
    call *dynfunc_keep_vectors(%rip)
    jmp .Ldelivered
.Lregister:
    movq $0,%fs:DELIVERY_OUTER(%r8)
    mov %rsi,%fs:DELIVERY_AT(%r8)
    lea dynfunc_register_hit_thread(%rip),%rdi
    xor %esi,%esi
    call call_any
    mov dynfunc_hit_counts@gottpoff(%rip),%rcx
    mov _ZN7dynfunc6detail11reader_wordE@gottpoff(%rip),%rdx
    mov %fs:(%rcx),%r12
    mov %fs:(%rdx),%r13
    mov HIT_REGISTERS(%rsp),%rsi
    mov HIT_SITE(%rsp),%rdi
    mov (%r13),%r14
    jmp .Lopen
.Lfence:
    mfence
    jmp .Lread
    .cfi_adjust_cfa_offset -HIT_FRAME
.Lmiss:
    lock incq SITE_MISSED(%rdi)
    xor %eax,%eax
    ret
// Inside a hit: if its registers lie below the stack pointer it was left by longjmp(), or this is a signal's own stack.
.Ldelivering:
    mov REGISTERS_RSP(%rsi),%rcx
    cmp %rcx,%fs:DELIVERY_AT(%r8)
    jae .Lmiss
    sub $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset HIT_FRAME
    mov %rsi,HIT_REGISTERS(%rsp)
    mov %rdi,HIT_SITE(%rsp)
    movq $0,REGISTERS_VECTORS(%rsi)
    lea dynfunc_forget_left_hit(%rip),%rdi
    call call_any
    mov HIT_REGISTERS(%rsp),%rsi
    mov HIT_SITE(%rsp),%rdi
    add $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset -HIT_FRAME
    mov dynfunc_delivery@gottpoff(%rip),%r8
    cmpq $0,%fs:DELIVERY_AT(%r8)
    je .Lagain
    jmp .Lmiss
    .cfi_endproc
    .size dynfunc_probe_hit,.-dynfunc_probe_hit

// void deliver_with_vectors(DeliveredHit*, Registers*): delivers one of its own, and hands back what was tracked.
    .p2align 4
    .type deliver_with_vectors,@function
deliver_with_vectors:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls
    endbr64
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx,0
    push %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12,0
    push %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15,0
    push %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14,0
    sub $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset HIT_FRAME
    mov %rdi,%r14
    mov HIT_AT(%rdi),%rax
    mov %rsi,HIT_REGISTERS(%rsp)
    mov %rax,HIT_AT(%rsp)
    movq $0,HIT_TRACKED(%rsp)
    mov dynfunc_hit_counts@gottpoff(%rip),%rcx
    mov HIT_SITE(%rdi),%rax
    mov %fs:(%rcx),%r12
    mov SITE_CONSUMERS(%rax),%rbx       // inside the same section, though perhaps a newer list
    test %rbx,%rbx
    jz 9f
    lea LIST_ENTRIES(%rbx),%r15
    mov LIST_LAST(%rbx),%rbx
    deliver
    mov HIT_TRACKED(%rsp),%rax
    mov %rax,HIT_TRACKED(%r14)
9:  add $HIT_FRAME,%rsp
    .cfi_adjust_cfa_offset -HIT_FRAME
    pop %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    pop %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    pop %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    ret
    .cfi_endproc
    .size deliver_with_vectors,.-deliver_with_vectors

// rdi(rsi, registers), compiled as any code; vector registers are kept, unless they are already. The caller's DeliveredHit lies
// behind the return address; the second name: rdx is the registers.
    .p2align 4
    .type call_any,@function
call_any:
    .cfi_startproc
    mov 8+HIT_REGISTERS(%rsp),%rdx
    .globl dynfunc_keep_vectors_and_call
    .hidden dynfunc_keep_vectors_and_call
dynfunc_keep_vectors_and_call:
    cmpq $0,REGISTERS_VECTORS(%rdx)
    jne 1f
    jmp *dynfunc_keep_vectors(%rip)
1:  mov %rdi,%rax
    mov %rsi,%rdi
    mov %rdx,%rsi
    jmp *%rax
    .cfi_endproc
    .size call_any,.-call_any

    .section .gcc_except_table,"a",@progbits
.Lno_calls:
    .byte 0xff,0xff,0x01,0x00           // no base, no types, no calls
    .hidden DW.ref.__gxx_personality_v0
    .weak DW.ref.__gxx_personality_v0
    .section .data.rel.local.DW.ref.__gxx_personality_v0,"awG",@progbits,DW.ref.__gxx_personality_v0,comdat
    .p2align 3
    .type DW.ref.__gxx_personality_v0,@object
    .size DW.ref.__gxx_personality_v0,8
DW.ref.__gxx_personality_v0:
    .quad __gxx_personality_v0
    .section dynfunc_hot,"ax",@progbits

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
