// SPDX-License-Identifier: MIT
// What calls a function whose return is to be seen, and what it returns to: see arch/return_slots.hpp.
#include <cet.h>  // with -fcf-protection: the note that this file keeps its rules

#include "offsets.inc"
#include "pool_sequence.inc"

// One slot for each record, which lies SLOT_TO_RECORD behind it. On the way in, rsp is where it was before the caller's call
// pushed its return address; what lies right below is the word that the slot's own call writes again, with the same value.
//
//      0  call *body(record)              pushes the place of return where the caller's return address was
//      6  lea -STUB_FRAME(%rsp),%rsp      the place of return: room for Registers, and nothing that it reads is overwritten
//     14  mov %rdi,...                    saved
//     19  lea record,%rdi
//     26  jmp dynfunc_return_hit
//
// Unwind rules for all of them, exact at every instruction: CFA = rsp, or rsp + STUB_FRAME from byte 14 on; the return address
// is a word of the record, which lies at a fixed distance from the slot's own address: (rip & -SLOT_BYTES) + SLOT_TO_RECORD +
// RECORD_RETURN_TO. An exception that passes is handed to the personality, which ends the call (lib/probe/return_unwind.cpp).
    .section dynfunc_return_code,"ax",@progbits
    .p2align 12
    .globl dynfunc_return_slots
    .hidden dynfunc_return_slots
dynfunc_return_slots:
    .cfi_startproc simple
    .cfi_personality 0x1b,dynfunc_return_personality
    // DW_CFA_def_cfa_expression: breg7 0; breg16 0; const1u 63; and; const1u 14; ge; const2u 288; mul; plus
    .cfi_escape 0x0f,15, 0x77,0, 0x80,0, 0x08,63, 0x1a, 0x08,14, 0x2a, 0x0a,0x20,0x01, 0x1e, 0x22
    // DW_CFA_expression r16: breg16 0; const1s -64; and; plus_uconst 0x40008
    .cfi_escape 0x10,16,9, 0x80,0, 0x09,0xc0, 0x1a, 0x23,0x88,0x80,0x10
    // A symbol for each: debuggers tell frames of the same address apart by the function they are in.
    .altmacro
    .macro name_slot number
    .type dynfunc_return_slot_\number,@function
    .size dynfunc_return_slot_\number,SLOT_BYTES
dynfunc_return_slot_\number:
    .endm
    .set slot,0
    .rept SLOTS
    name_slot %slot
    .set slot,slot+1
1:  call *(1b+SLOT_TO_RECORD+RECORD_BODY)(%rip)
    .byte 0x48,0x8d,0xa4,0x24           // lea -STUB_FRAME(%rsp),%rsp
    .long -STUB_FRAME
    mov %rdi,REGISTERS_RDI(%rsp)
    lea 1b+SLOT_TO_RECORD(%rip),%rdi
    .byte 0xe9                          // jmp, never of two bytes
    .long dynfunc_return_hit - . - 4
    .p2align 6,0xcc
    .endr
    .noaltmacro
    .cfi_endproc
    .org dynfunc_return_slots+SLOT_TO_RECORD
// Made writable, and no longer executable, before the first is used.
    .globl dynfunc_return_records
    .hidden dynfunc_return_records
    .type dynfunc_return_records,@object
dynfunc_return_records:
    .zero SLOTS*RECORD_BYTES
    .size dynfunc_return_records,.-dynfunc_return_records

    .section dynfunc_hot,"ax",@progbits

// AfterHit dynfunc_return_entry(DeliveredHit*): the consumer of a probe whose data are ReturnHandlers. Takes an instance, asks
// on_entry, and puts the record into the list of those that dynfunc_probe_hit makes active.
    .p2align 6
    .globl dynfunc_return_entry
    .hidden dynfunc_return_entry
    .type dynfunc_return_entry,@function
dynfunc_return_entry:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls_of_returns
    endbr64
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx,0
    sub $16,%rsp
    .cfi_adjust_cfa_offset 16
    mov %rdi,%rbx
    mov HIT_DATA(%rdi),%rdx
    mov %rdx,(%rsp)
    mov HANDLERS_POOL(%rdx),%rsi
    pop_object
.Lpopped:
    mov (%rsp),%rdx
    mov (%rdi),%r8                      // an instance begins with the address of its record
    mov HANDLERS_ON_ENTRY(%rdx),%rax
    test %rax,%rax
    jz .Ltrack
    mov dynfunc_delivery@gottpoff(%rip),%rcx
    mov RECORD_DATA(%r8),%rdi
    mov %r8,%fs:DELIVERY_POPPED(%rcx)
    mov HIT_REGISTERS(%rbx),%rsi
    call *%rax
    mov dynfunc_delivery@gottpoff(%rip),%rcx
    mov %fs:DELIVERY_POPPED(%rcx),%r8
    movq $0,%fs:DELIVERY_POPPED(%rcx)
    test %al,%al
    jz .Lskip
.Ltrack:
    mov HIT_TRACKED(%rbx),%rax
    movq $0,RECORD_NEXT(%r8)
    test %rax,%rax
    jnz .Lanother
    mov dynfunc_delivery@gottpoff(%rip),%rcx
    mov %r8,HIT_TRACKED(%rbx)
    mov %r8,%fs:DELIVERY_TRACKED(%rcx)
.Llinked:
    mov %r8,HIT_LAST_TRACKED(%rbx)
.Lentered:
    xor %eax,%eax                       // AfterHit::keep
    add $16,%rsp
    .cfi_adjust_cfa_offset -16
    pop %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    ret
    .cfi_adjust_cfa_offset 24
    .cfi_rel_offset rbx,16
.Lanother:
    mov HIT_LAST_TRACKED(%rbx),%rax
    mov %r8,RECORD_NEXT(%rax)
    jmp .Llinked
    ways_out .Lpop_otherwise
.Lskip:
    mov (%rsp),%rdx
    mov RECORD_OBJECT(%r8),%rdi
    mov HANDLERS_POOL(%rdx),%rsi
    push_object
    jmp .Lentered
    ways_out .Lpush_skipped
// The other ways of the pool are compiled as any code. What they take and give lies on the stack: handlers, instance.
.Lpop_otherwise:
    lea dynfunc_pop_instance(%rip),%rdi
    call .Lcall_with_pair
    mov 8(%rsp),%rdi
    test %rdi,%rdi
    jnz .Lpopped
    jmp .Lentered
.Lpush_skipped:
    mov %rdi,8(%rsp)
    lea dynfunc_push_instance(%rip),%rdi
    call .Lcall_with_pair
    jmp .Lentered
.Lcall_with_pair:
    .cfi_adjust_cfa_offset 8
    lea 8(%rsp),%rsi
    mov HIT_REGISTERS(%rbx),%rdx
    jmp dynfunc_keep_vectors_and_call
    .cfi_endproc
    .size dynfunc_return_entry,.-dynfunc_return_entry

// Where slots go on: rdi is the record, rsp the Registers, of which rdi is saved; the word that led here lies STUB_FRAME - 8
// above, and stays what it is until the record is given back. Between: what is needed behind the handler.
#define RETURN_ERRNO 160
#define RETURN_IS_NESTED 164
#define RETURN_FLOATS 168                // 108 bytes
#define RETURN_WORD (STUB_FRAME-8)
    .p2align 6
    .globl dynfunc_return_hit
    .hidden dynfunc_return_hit
    .type dynfunc_return_hit,@function
dynfunc_return_hit:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls_of_returns
    .cfi_def_cfa_offset STUB_FRAME
    mov %rax,REGISTERS_RAX(%rsp)
    mov %rcx,REGISTERS_RCX(%rsp)
    mov %rdx,REGISTERS_RDX(%rsp)
    mov %rbx,REGISTERS_RBX(%rsp)
    mov %rsi,REGISTERS_RSI(%rsp)
    mov %r8,REGISTERS_R8(%rsp)
    mov %r9,REGISTERS_R9(%rsp)
    mov %r10,REGISTERS_R10(%rsp)
    mov %r11,REGISTERS_R11(%rsp)
    mov %r12,REGISTERS_R12(%rsp)
    mov %r13,REGISTERS_R13(%rsp)
    mov %r14,REGISTERS_R14(%rsp)
    mov %r15,REGISTERS_R15(%rsp)
    mov %rbp,REGISTERS_RBP(%rsp)
    .cfi_rel_offset rbx,REGISTERS_RBX
    .cfi_rel_offset rbp,REGISTERS_RBP
    .cfi_rel_offset r12,REGISTERS_R12
    .cfi_rel_offset r13,REGISTERS_R13
    .cfi_rel_offset r14,REGISTERS_R14
    .cfi_rel_offset r15,REGISTERS_R15
    mov RECORD_STATE(%rdi),%rdx
    mov RECORD_RETURN_TO(%rdi),%rax
    lea STUB_FRAME(%rsp),%rcx
    movq $0x202,REGISTERS_RFLAGS(%rsp)
    mov %rcx,REGISTERS_RSP(%rsp)
    mov %rax,REGISTERS_RIP(%rsp)
    movq $0,REGISTERS_VECTORS(%rsp)
    lea REGISTERS_RBP(%rsp),%rbp        // what a chain of frame pointers expects: the old one, and the return address
    mov %rdi,%rbx
    mov dynfunc_thread_work@gottpoff(%rip),%rax
    mov dynfunc_hit_counts@gottpoff(%rip),%rcx
    mov _ZN7dynfunc6detail11reader_wordE@gottpoff(%rip),%rdi
    mov dynfunc_delivery@gottpoff(%rip),%r8
    mov %fs:(%rcx),%r12
    mov %fs:(%rdi),%r13
    movl $0,RETURN_IS_NESTED(%rsp)
    cmpl $0,%fs:(%rax)
    jne .Lnested_return
    cmpq $0,%fs:DELIVERY_AT(%r8)
    jne .Lmaybe_nested
.Lalone:
    test %r12,%r12
    jz .Lregister_returning
    test %r13,%r13
    jz .Lregister_returning
    mov (%r13),%r14
    mov %r14,%fs:DELIVERY_OUTER(%r8)
    mov %rsp,%fs:DELIVERY_AT(%r8)
.Lopen_returning:
    test %r14,%r14
    jnz 1f
    mov _ZN7dynfunc6detail14current_periodE@GOTPCREL(%rip),%rax
    mov (%rax),%rax
    mov %rax,(%r13)
1:  mov _ZN7dynfunc6detail13readers_fenceE@GOTPCREL(%rip),%rax
    cmpb $0,(%rax)
    jne .Lfence_returning
// rbx is the record, rdx its state.
.Lnext_record:
    mov %edx,%eax
    and $PHASE_MASK,%eax
    cmp $PHASE_ACTIVE,%eax
    jne .Lbroken
    inc %rdx                            // returning
    mov RECORD_HANDLERS(%rbx),%r15
    mov %rdx,RECORD_STATE(%rbx)
    cmpb $0,HANDLERS_DETACHED(%r15)
    jne .Lunseen
    mov HANDLERS_ON_RETURN(%r15),%rax
    test %rax,%rax
    jz .Lunseen
    cmpl $0,RETURN_IS_NESTED(%rsp)
    jne .Lmissed_return
    mov COUNTS_ERRNO_AT(%r12),%rcx
    mov RECORD_DATA(%rbx),%rdi
    mov (%rcx),%ecx
    mov %rsp,%rsi
    mov %ecx,RETURN_ERRNO(%rsp)
    cmpb $0,HANDLERS_NEED_VECTORS(%r15)
    jne .Lvectors_returning
    call *%rax
.Lseen:
    mov COUNTS_ERRNO_AT(%r12),%rax
    mov RETURN_ERRNO(%rsp),%ecx
    cmp %ecx,(%rax)
    jne .Lerrno_changed
.Lunseen:
    mov RECORD_RETURN_TO(%rbx),%rax
    mov RECORD_STATE(%rbx),%rdx
    mov RECORD_OBJECT(%rbx),%rdi
    inc %rdx                            // leaving
    mov %rdx,RECORD_STATE(%rbx)
    mov %rax,RETURN_WORD(%rsp)          // before the record is free: a record that it leads to stays live
    and $-ONE_CALL,%rdx
    mov HANDLERS_POOL(%r15),%rsi
    mov %rdx,RECORD_STATE(%rbx)
    push_object
// Several probes of one function, and functions that end in a jump to a probed one, have their slots one after the other: they
// are seen to here, so that calls and returns stay in pairs.
.Lpushed:
    mov RETURN_WORD(%rsp),%rax
    lea -SLOT_RETURN(%rax),%edx
    test $SLOT_BYTES-1,%dl
    jz .Lmaybe_chained
.Llast_record:
    mov %r14,(%r13)                     // (D)
    cmpl $0,RETURN_IS_NESTED(%rsp)
    jne 1f
    mov dynfunc_delivery@gottpoff(%rip),%rax
    movq $0,%fs:DELIVERY_AT(%rax)
1:  mov REGISTERS_RAX(%rsp),%rax
    mov REGISTERS_RCX(%rsp),%rcx
    mov REGISTERS_RDX(%rsp),%rdx
    mov REGISTERS_RBX(%rsp),%rbx
    mov REGISTERS_RSI(%rsp),%rsi
    mov REGISTERS_RDI(%rsp),%rdi
    mov REGISTERS_R8(%rsp),%r8
    mov REGISTERS_R9(%rsp),%r9
    mov REGISTERS_R10(%rsp),%r10
    mov REGISTERS_R11(%rsp),%r11
    mov REGISTERS_R12(%rsp),%r12
    mov REGISTERS_R13(%rsp),%r13
    mov REGISTERS_R14(%rsp),%r14
    mov REGISTERS_R15(%rsp),%r15
    mov REGISTERS_RBP(%rsp),%rbp
    lea RETURN_WORD(%rsp),%rsp
    .cfi_def_cfa_offset 8
    .cfi_same_value rbx
    .cfi_same_value rbp
    .cfi_same_value r12
    .cfi_same_value r13
    .cfi_same_value r14
    .cfi_same_value r15
    ret
    .cfi_def_cfa_offset STUB_FRAME
    .cfi_rel_offset rbx,REGISTERS_RBX
    .cfi_rel_offset rbp,REGISTERS_RBP
    .cfi_rel_offset r12,REGISTERS_R12
    .cfi_rel_offset r13,REGISTERS_R13
    .cfi_rel_offset r14,REGISTERS_R14
    .cfi_rel_offset r15,REGISTERS_R15
    ways_out .Lpush_otherwise
.Lmaybe_chained:
    lea dynfunc_return_slots(%rip),%rcx
    mov %rax,%rdx
    sub %rcx,%rdx
    cmp $SLOT_TO_RECORD,%rdx
    jb .Lchained
    cmpb $0,dynfunc_has_more_slots(%rip)
    je .Llast_record
    mov %rax,RETURN_FLOATS(%rsp)
    lea dynfunc_ask_for_slot(%rip),%rdi
    lea RETURN_FLOATS(%rsp),%rsi
    mov %rsp,%rdx
    call dynfunc_keep_vectors_and_call
    mov RETURN_FLOATS(%rsp),%rax
    test %rax,%rax
    jz .Llast_record
.Lchained:
    lea SLOT_TO_RECORD-SLOT_RETURN(%rax),%rbx
    mov RECORD_RETURN_TO(%rbx),%rax
    mov RECORD_STATE(%rbx),%rdx
    mov %rax,REGISTERS_RIP(%rsp)
    jmp .Lnext_record
.Lpush_otherwise:
    mov %r15,RETURN_FLOATS(%rsp)
    mov %rdi,RETURN_FLOATS+8(%rsp)
    lea dynfunc_push_instance(%rip),%rdi
    lea RETURN_FLOATS(%rsp),%rsi
    mov %rsp,%rdx
    call dynfunc_keep_vectors_and_call
    jmp .Lpushed
.Lerrno_changed:
    mov %ecx,(%rax)
    jmp .Lunseen
// A floating point stack that is not empty holds what the function returns.
.Lvectors_returning:
    lea run_on_return(%rip),%rdi
    mov %rbx,%rsi
    mov %rsp,%rdx
    fnstsw %ax
    test $0x3800,%eax
    jnz 1f
    call *dynfunc_keep_vectors(%rip)
    jmp .Lseen
1:  fnsave RETURN_FLOATS(%rsp)
    fldcw RETURN_FLOATS(%rsp)
    call *dynfunc_keep_vectors(%rip)
    frstor RETURN_FLOATS(%rsp)
    jmp .Lseen
// In the middle of the library's own work, or of another handler.
.Lmissed_return:
    lock incq HANDLERS_MISSED(%r15)
    jmp .Lunseen
.Lmaybe_nested:
    mov REGISTERS_RSP(%rsp),%rcx
    cmp %rcx,%fs:DELIVERY_AT(%r8)
    jae .Lnested_return
    lea dynfunc_forget_left_hit(%rip),%rdi
    mov %rsp,%rdx
    call dynfunc_keep_vectors_and_call
    mov RECORD_STATE(%rbx),%rdx
    mov dynfunc_delivery@gottpoff(%rip),%r8
    cmpq $0,%fs:DELIVERY_AT(%r8)
    je .Lalone
.Lnested_return:
    movl $1,RETURN_IS_NESTED(%rsp)
    mov (%r13),%r14                     // whoever works on has a word
    jmp .Lopen_returning
.Lregister_returning:
    movq $0,%fs:DELIVERY_OUTER(%r8)
    mov %rsp,%fs:DELIVERY_AT(%r8)
    lea dynfunc_register_hit_thread(%rip),%rdi
    xor %esi,%esi
    mov %rsp,%rdx
    call dynfunc_keep_vectors_and_call
    mov dynfunc_hit_counts@gottpoff(%rip),%rcx
    mov _ZN7dynfunc6detail11reader_wordE@gottpoff(%rip),%rdi
    mov %fs:(%rcx),%r12
    mov %fs:(%rdi),%r13
    mov RECORD_STATE(%rbx),%rdx
    mov (%r13),%r14
    jmp .Lopen_returning
.Lfence_returning:
    mfence
    jmp .Lnext_record
.Lbroken:
    mov %rbx,%rdi
    call dynfunc_returned_twice
    ud2
    .cfi_endproc
    .size dynfunc_return_hit,.-dynfunc_return_hit

// void run_on_return(ReturnRecord*, Registers*)
    .p2align 4
    .type run_on_return,@function
run_on_return:
    .cfi_startproc
    endbr64
    mov RECORD_HANDLERS(%rdi),%rax
    mov RECORD_DATA(%rdi),%rdi
    jmp *HANDLERS_ON_RETURN(%rax)
    .cfi_endproc
    .size run_on_return,.-run_on_return

// Where an exception that leaves a tracked call comes to: rax is the exception, rdx the record, rsp as when the function had
// returned. Goes on as if the caller had called _Unwind_Resume.
    .p2align 4
    .globl dynfunc_return_landing
    .hidden dynfunc_return_landing
    .type dynfunc_return_landing,@function
dynfunc_return_landing:
    .cfi_startproc simple
    .cfi_def_cfa rsp,0
    .cfi_undefined rip
    endbr64
    push RECORD_RETURN_TO(%rdx)
    .cfi_def_cfa rsp,8
    .cfi_offset rip,-8
    push %rax
    .cfi_def_cfa rsp,16
    mov %rdx,%rdi
    call dynfunc_return_unwound
    pop %rdi
    .cfi_def_cfa rsp,8
    jmp *_Unwind_Resume@GOTPCREL(%rip)
    .cfi_endproc
    .size dynfunc_return_landing,.-dynfunc_return_landing

    .section .gcc_except_table,"a",@progbits
.Lno_calls_of_returns:
    .byte 0xff,0xff,0x01,0x00           // no base, no types, no calls
    .section .note.GNU-stack,"",@progbits
