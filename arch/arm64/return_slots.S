// SPDX-License-Identifier: MIT
// What calls a function whose return is to be seen, and what it returns to: see arch/return_slots.hpp. On this machine no word
// of the stack leads back to a slot: the link register does, and wherever the function keeps it.
#include "offsets.inc"
#include "thunk_macros.inc"
#include "pool_sequence.inc"

// One slot for each record, which lies SLOT_TO_RECORD behind it. x30 is the place of return already when a thread comes here,
// so that one unwind rule holds at every instruction of a slot; x16 and x17 are free at a function's begin, and at its end.
//
//      0  bti c
//      4  ldr x16, record.body
//      8  blr x16
//     12  adr x17, record                the place of return
//     16  b   dynfunc_return_hit
//
// Unwind rules for all of them: CFA = sp; the return address is a word of the record: (x30 & -SLOT_BYTES) + SLOT_TO_RECORD +
// RECORD_RETURN_TO, of x30 without the upper 16 bits, where the function may have signed it. An exception that passes is handed
// to the personality, which ends the call (lib/probe/return_unwind.cpp).
    .section dynfunc_return_code,"ax",%progbits
    .p2align 16                         // the largest pages there are
    .globl dynfunc_return_slots
    .hidden dynfunc_return_slots
dynfunc_return_slots:
    .cfi_startproc simple
    .cfi_personality 0x1b,dynfunc_return_personality
    .cfi_def_cfa sp,0
    // DW_CFA_expression x30: breg30 0; lit16; shl; lit16; shr; const1s -64; and; plus_uconst 0x40008
    .cfi_escape 0x10,30,13, 0x8e,0, 0x40,0x24, 0x40,0x25, 0x09,0xc0, 0x1a, 0x23,0x88,0x80,0x10
    // A symbol for each: debuggers tell frames of the same address apart by the function they are in.
    .altmacro
    .macro name_slot number
    .type dynfunc_return_slot_\number,%function
    .size dynfunc_return_slot_\number,SLOT_BYTES
dynfunc_return_slot_\number:
    .endm
    .set slot,0
    .rept SLOTS
    name_slot %slot
    .set slot,slot+1
1:  hint #34
    ldr x16,1b+SLOT_TO_RECORD+RECORD_BODY
    blr x16
    adr x17,1b+SLOT_TO_RECORD
    b dynfunc_return_hit
    .p2align 6
    .endr
    .noaltmacro
    .cfi_endproc
    .org dynfunc_return_slots+SLOT_TO_RECORD
// Made writable, and no longer executable, before the first is used.
    .globl dynfunc_return_records
    .hidden dynfunc_return_records
    .type dynfunc_return_records,%object
dynfunc_return_records:
    .zero SLOTS*RECORD_BYTES
    .size dynfunc_return_records,.-dynfunc_return_records

    .section dynfunc_hot,"ax",%progbits

// AfterHit dynfunc_return_entry(DeliveredHit*): the consumer of a probe whose data are ReturnHandlers. Takes an instance, asks
// on_entry, and puts the record into the list of those that dynfunc_probe_hit makes active. At sp + 32: handlers, instance, for
// the other ways of the pool, which are compiled as any code. x26 is dynfunc_probe_hit's.
    .p2align 6
    .globl dynfunc_return_entry
    .hidden dynfunc_return_entry
    .type dynfunc_return_entry,%function
dynfunc_return_entry:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls_of_returns
    hint #34
    stp x29,x30,[sp,#-48]!
    .cfi_def_cfa_offset 48
    .cfi_rel_offset x29,0
    .cfi_rel_offset x30,8
    mov x29,sp
    stp x19,x20,[sp,#16]
    .cfi_rel_offset x19,16
    .cfi_rel_offset x20,24
    mov x19,x0
    ldr x9,[x0,#HIT_DATA]
    stp x9,xzr,[sp,#32]
    ldr x1,[x9,#HANDLERS_POOL]
    pop_object
.Lpopped:
    ldr x10,[sp,#32]
    ldr x20,[x0]                        // an instance begins with the address of its record
    ldr x11,[x10,#HANDLERS_ON_ENTRY]
    cbz x11,.Ltrack
    of_thread x9,dynfunc_delivery
    ldr x0,[x20,#RECORD_DATA]
    str x20,[x9,#DELIVERY_POPPED]
    ldr x1,[x19,#HIT_REGISTERS]
    blr x11
    of_thread x9,dynfunc_delivery
    str xzr,[x9,#DELIVERY_POPPED]
    tst w0,#0xff
    b.eq .Lskip
.Ltrack:
    ldr x9,[x19,#HIT_TRACKED]
    str xzr,[x20,#RECORD_NEXT]
    cbnz x9,.Lanother
    of_thread x9,dynfunc_delivery
    str x20,[x19,#HIT_TRACKED]
    str x20,[x9,#DELIVERY_TRACKED]
.Llinked:
    str x20,[x19,#HIT_LAST_TRACKED]
.Lentered:
    mov w0,#0                           // AfterHit::keep
    ldp x19,x20,[sp,#16]
    ldp x29,x30,[sp],#48
    .cfi_remember_state
    .cfi_def_cfa_offset 0
    ret
    .cfi_restore_state
.Lanother:
    ldr x9,[x19,#HIT_LAST_TRACKED]
    str x20,[x9,#RECORD_NEXT]
    b .Llinked
    ways_out .Lpop_otherwise
.Lskip:
    ldr x9,[sp,#32]
    ldr x0,[x20,#RECORD_OBJECT]
    ldr x1,[x9,#HANDLERS_POOL]
    push_object
    b .Lentered
    ways_out .Lpush_skipped
.Lpop_otherwise:
    address_of x0,dynfunc_pop_instance
    add x1,sp,#32
    ldr x2,[x19,#HIT_REGISTERS]
    bl dynfunc_keep_vectors_and_call
    ldr x0,[sp,#40]
    cbnz x0,.Lpopped
    b .Lentered
.Lpush_skipped:
    str x0,[sp,#40]
    address_of x0,dynfunc_push_instance
    add x1,sp,#32
    ldr x2,[x19,#HIT_REGISTERS]
    bl dynfunc_keep_vectors_and_call
    b .Lentered
    .cfi_endproc
    .size dynfunc_return_entry,.-dynfunc_return_entry

// Where slots go on: x17 is the record, sp as the function left it. x19 the record, x20 the Registers (sp), x21 the thread's
// counters, x22 its reader word, x23 what that was, x25 the handlers, x26 the thread pointer, x28 where to return.
#define RETURN_ERRNO 304
#define RETURN_IS_NESTED 308
#define RETURN_TWO_WORDS 312
#define RETURN_FRAME 336
    .p2align 6
    .globl dynfunc_return_hit
    .hidden dynfunc_return_hit
    .type dynfunc_return_hit,%function
dynfunc_return_hit:
    .cfi_startproc
    .cfi_personality 0x9b,DW.ref.__gxx_personality_v0
    .cfi_lsda 0x1b,.Lno_calls_of_returns
    // DW_CFA_expression x30: breg17 RECORD_RETURN_TO
    .cfi_escape 0x10,30,2, 0x81,RECORD_RETURN_TO
    sub sp,sp,#RETURN_FRAME
    .cfi_def_cfa_offset RETURN_FRAME
    stp x16,x17,[sp,#REGISTERS_X(16)]
    ldr x16,[x17,#RECORD_RETURN_TO]
    stp x29,x16,[sp,#REGISTERS_X(29)]
    .cfi_rel_offset x29,REGISTERS_X(29)
    .cfi_rel_offset x30,REGISTERS_X(30)
    save_all_but_those_of_stubs
    .irp i,19,20,21,22,23,24,25,26,27,28
    .cfi_rel_offset x\i,REGISTERS_X(\i)
    .endr
    mrs x2,nzcv
    add x4,sp,#RETURN_FRAME
    stp x4,x16,[sp,#REGISTERS_SP]
    stp x2,xzr,[sp,#REGISTERS_NZCV]     // no vectors
    stp x29,x16,[sp,#STUB_PAIR]         // what a chain of frame pointers expects
    add x29,sp,#STUB_PAIR
    mov x19,x17
    mov x20,sp
    mrs x26,tpidr_el0
.Lreturning:
    of_thread x9,dynfunc_thread_work
    of_thread x11,dynfunc_hit_counts
    of_thread x12,_ZN7dynfunc6detail11reader_wordE
    of_thread x13,dynfunc_delivery
    ldr w10,[x9]
    ldr x21,[x11]
    ldr x22,[x12]
    str wzr,[sp,#RETURN_IS_NESTED]
    cbnz w10,.Lnested_return
    ldr x10,[x13,#DELIVERY_AT]
    cbnz x10,.Lmaybe_nested
    cbz x21,.Lregister_returning
    cbz x22,.Lregister_returning
    ldr x23,[x22]
    stp x20,x23,[x13,#DELIVERY_AT]
.Lopen_returning:
    cbnz x23,1f
    global x9,_ZN7dynfunc6detail14current_periodE
    ldar x9,[x9]
    str x9,[x22]
1:  global x9,_ZN7dynfunc6detail13readers_fenceE
    ldrb w9,[x9]
    cbz w9,.Lnext_record
    dmb ish
.Lnext_record:
    ldr x9,[x19,#RECORD_STATE]
    and x10,x9,#PHASE_MASK
    cmp x10,#PHASE_ACTIVE
    b.ne .Lbroken
    add x9,x9,#1                        // returning
    ldr x25,[x19,#RECORD_HANDLERS]
    str x9,[x19,#RECORD_STATE]
    ldrb w10,[x25,#HANDLERS_DETACHED]
    cbnz w10,.Lunseen
    ldr x10,[x25,#HANDLERS_ON_RETURN]
    cbz x10,.Lunseen
    ldr w11,[sp,#RETURN_IS_NESTED]
    cbnz w11,.Lmissed_return
    ldr x11,[x21,#COUNTS_ERRNO_AT]
    ldr w11,[x11]
    str w11,[sp,#RETURN_ERRNO]
    ldrb w11,[x25,#HANDLERS_NEED_VECTORS]
    cbnz w11,.Lvectors_returning
    ldr x0,[x19,#RECORD_DATA]
    mov x1,sp
    blr x10
.Lseen:
    ldr x9,[x21,#COUNTS_ERRNO_AT]
    ldr w10,[sp,#RETURN_ERRNO]
    str w10,[x9]
.Lunseen:
    ldr x28,[x19,#RECORD_RETURN_TO]
    ldr x9,[x19,#RECORD_STATE]
    ldr x0,[x19,#RECORD_OBJECT]
    and x9,x9,#-ONE_CALL
    ldr x1,[x25,#HANDLERS_POOL]
    add x11,x19,#RECORD_STATE
    stlr x9,[x11]
    push_object
.Lpushed:
// Several probes of one function, and functions that end in a jump to a probed one, have their slots one after the other: they
// are seen to here, so that calls and returns stay in pairs.
    sub x9,x28,#SLOT_RETURN
    tst x9,#SLOT_BYTES-1
    b.ne .Llast_record
    address_of x10,dynfunc_return_slots
    sub x11,x28,x10
    cmp x11,#SLOT_TO_RECORD
    b.lo .Lchained
    address_of x9,dynfunc_has_more_slots
    ldrb w9,[x9]
    cbz w9,.Llast_record
    str x28,[sp,#RETURN_TWO_WORDS]
    address_of x0,dynfunc_ask_for_slot
    add x1,sp,#RETURN_TWO_WORDS
    mov x2,sp
    bl dynfunc_keep_vectors_and_call
    ldr x9,[sp,#RETURN_TWO_WORDS]
    cbz x9,.Llast_record
.Lchained:
    add x19,x28,#SLOT_TO_RECORD
    sub x19,x19,#SLOT_RETURN
    ldr x9,[x19,#RECORD_RETURN_TO]
    str x9,[sp,#REGISTERS_PC]
    str x9,[sp,#REGISTERS_X(30)]
    str x9,[sp,#STUB_PAIR+8]
    b .Lnext_record
.Llast_record:
    stlr x23,[x22]                      // (D)
    ldr w10,[sp,#RETURN_IS_NESTED]
    cbnz w10,1f
    of_thread x9,dynfunc_delivery
    str xzr,[x9,#DELIVERY_AT]
1:  ldr x9,[sp,#REGISTERS_NZCV]
    mov x30,x28
    msr nzcv,x9
    .cfi_remember_state
    .cfi_same_value x30
    ldr x29,[sp,#REGISTERS_X(29)]
    load_all_but_those_of_stubs
    add sp,sp,#RETURN_FRAME
    .cfi_def_cfa_offset 0
    .irp i,19,20,21,22,23,24,25,26,27,28,29
    .cfi_same_value x\i
    .endr
    ret
    .cfi_restore_state
.Lvectors_returning:
    adr x0,run_on_return
    mov x1,x19
    mov x2,sp
    address_of x9,dynfunc_keep_vectors
    ldr x9,[x9]
    blr x9
    b .Lseen
// In the middle of the library's own work, or of another handler.
.Lmissed_return:
    add x9,x25,#HANDLERS_MISSED
1:  ldxr x10,[x9]
    add x10,x10,#1
    stxr w11,x10,[x9]
    cbnz w11,1b
    b .Lunseen
.Lmaybe_nested:
    ldr x11,[sp,#REGISTERS_SP]
    cmp x10,x11
    b.hs .Lnested_return
    address_of x0,dynfunc_forget_left_hit
    mov x1,#0
    mov x2,sp
    bl dynfunc_keep_vectors_and_call
    of_thread x9,dynfunc_delivery
    ldr x10,[x9,#DELIVERY_AT]
    cbz x10,.Lreturning
.Lnested_return:
    mov w10,#1
    str w10,[sp,#RETURN_IS_NESTED]
    ldr x23,[x22]                       // whoever works on has a word
    b .Lopen_returning
.Lregister_returning:
    stp x20,xzr,[x13,#DELIVERY_AT]
    address_of x0,dynfunc_register_hit_thread
    mov x1,#0
    mov x2,sp
    bl dynfunc_keep_vectors_and_call
    of_thread x11,dynfunc_hit_counts
    of_thread x12,_ZN7dynfunc6detail11reader_wordE
    ldr x21,[x11]
    ldr x22,[x12]
    ldr x23,[x22]
    b .Lopen_returning
    ways_out .Lpush_otherwise
.Lpush_otherwise:
    stp x25,x0,[sp,#RETURN_TWO_WORDS]
    address_of x0,dynfunc_push_instance
    add x1,sp,#RETURN_TWO_WORDS
    mov x2,sp
    bl dynfunc_keep_vectors_and_call
    b .Lpushed
.Lbroken:
    mov x0,x19
    bl dynfunc_returned_twice
    brk #1
    .cfi_endproc
    .size dynfunc_return_hit,.-dynfunc_return_hit

// void run_on_return(ReturnRecord*, Registers*)
    .p2align 4
    .type run_on_return,%function
run_on_return:
    .cfi_startproc
    hint #34
    ldr x9,[x0,#RECORD_HANDLERS]
    ldr x0,[x0,#RECORD_DATA]
    ldr x16,[x9,#HANDLERS_ON_RETURN]
    br x16
    .cfi_endproc
    .size run_on_return,.-run_on_return

// Where an exception that leaves a tracked call comes to: x0 is the exception, x1 the record, sp as when the function had
// returned. Goes on as if the caller had called _Unwind_Resume.
    .p2align 4
    .globl dynfunc_return_landing
    .hidden dynfunc_return_landing
    .type dynfunc_return_landing,%function
dynfunc_return_landing:
    .cfi_startproc simple
    .cfi_def_cfa sp,0
    .cfi_undefined x30
    hint #36                            // bti j
    ldr x9,[x1,#RECORD_RETURN_TO]
    stp x0,x9,[sp,#-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x30,-8
    mov x0,x1
    bl dynfunc_return_unwound
    ldp x0,x30,[sp],#16
    .cfi_def_cfa_offset 0
    .cfi_same_value x30
    global x16,_Unwind_Resume
    br x16
    .cfi_endproc
    .size dynfunc_return_landing,.-dynfunc_return_landing

    .section .gcc_except_table,"a",%progbits
.Lno_calls_of_returns:
    .byte 0xff,0xff,0x01,0x00           // no base, no types, no calls
    .section .note.GNU-stack,"",%progbits
