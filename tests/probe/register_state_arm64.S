// SPDX-License-Identifier: MIT
// Calls a function with every register as the test says, and says what they are afterwards: nothing in between but two
// instructions, of x30. struct State: register_state_arm64.hpp.
#define X(i) (8*(i))
#define NZCV 248
#define FPCR 256
#define FPSR 264
#define Q(i) (272+16*(i))

    .text
// Functions that change no register and no flag.
    .p2align 4
    .globl quiet_whole, quiet_middle
    .type quiet_whole,%function
quiet_whole:
    .cfi_startproc
    nop
quiet_middle:
    nop
    ret
    .cfi_endproc
    .size quiet_whole,.-quiet_whole

// void run_with_state()
    .p2align 4
    .globl run_with_state
    .type run_with_state,%function
run_with_state:
    .cfi_startproc
    stp x29,x30,[sp,#-176]!
    .cfi_def_cfa_offset 176
    .cfi_offset x29,-176
    .cfi_offset x30,-168
    stp x19,x20,[sp,#16]
    stp x21,x22,[sp,#32]
    stp x23,x24,[sp,#48]
    stp x25,x26,[sp,#64]
    stp x27,x28,[sp,#80]
    stp d8,d9,[sp,#96]
    stp d10,d11,[sp,#112]
    stp d12,d13,[sp,#128]
    stp d14,d15,[sp,#144]
    mrs x9,fpcr
    str x9,[sp,#160]
    adrp x9,state_stack
    mov x10,sp
    str x10,[x9,:lo12:state_stack]
    adrp x30,state_in
    add x30,x30,:lo12:state_in
    ldr x9,[x30,#NZCV]
    msr nzcv,x9
    ldr x9,[x30,#FPCR]
    msr fpcr,x9
    ldr x9,[x30,#FPSR]
    msr fpsr,x9
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ldr q\i,[x30,#Q(\i)]
    .endr
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    ldr x\i,[x30,#X(\i)]
    .endr
    adrp x30,state_target
    ldr x30,[x30,:lo12:state_target]
    blr x30
    adrp x30,state_out
    add x30,x30,:lo12:state_out
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    str x\i,[x30,#X(\i)]
    .endr
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    str q\i,[x30,#Q(\i)]
    .endr
    mrs x9,nzcv
    str x9,[x30,#NZCV]
    mrs x9,fpcr
    str x9,[x30,#FPCR]
    mrs x9,fpsr
    str x9,[x30,#FPSR]
    ldr x9,[sp,#160]
    msr fpcr,x9
    ldp x19,x20,[sp,#16]
    ldp x21,x22,[sp,#32]
    ldp x23,x24,[sp,#48]
    ldp x25,x26,[sp,#64]
    ldp x27,x28,[sp,#80]
    ldp d8,d9,[sp,#96]
    ldp d10,d11,[sp,#112]
    ldp d12,d13,[sp,#128]
    ldp d14,d15,[sp,#144]
    ldp x29,x30,[sp],#176
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size run_with_state,.-run_with_state

    .section .note.GNU-stack,"",%progbits
