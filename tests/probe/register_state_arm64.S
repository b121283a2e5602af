// SPDX-License-Identifier: MIT
// A probed function between a state of all registers and a look at all of them.
//
// void through_probe(const RegisterState* before, RegisterState* after): loads everything from `before` but sp and x30, calls
// probed_leaf, and writes what is then in the registers to `after`; x16 and x17, too.
#define X(i) (8*(i))
#define NZCV 248
#define FPCR 256
#define FPSR 264
#define Q(i) (272+16*(i))

    .text
    .p2align 4
    .globl probed_leaf
    .type probed_leaf,%function
probed_leaf:
    .cfi_startproc
    nop
    .globl probed_inside
probed_inside:
    nop
    ret
    .cfi_endproc
    .size probed_leaf,.-probed_leaf

    .p2align 4
    .globl through_probe
    .type through_probe,%function
through_probe:
    .cfi_startproc
    stp x29,x30,[sp,#-192]!
    .cfi_def_cfa_offset 192
    .cfi_offset x29,-192
    .cfi_offset x30,-184
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
    stp x1,x9,[sp,#160]
    ldr x9,[x0,#NZCV]
    msr nzcv,x9
    ldr x9,[x0,#FPCR]
    msr fpcr,x9
    ldr x9,[x0,#FPSR]
    msr fpsr,x9
    .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ldr q\i,[x0,#Q(\i)]
    .endr
    .irp i,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    ldr x\i,[x0,#X(\i)]
    .endr
    ldr x0,[x0]
    bl probed_leaf
    str x30,[sp,#176]
    ldr x30,[sp,#160]
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
    ldr x9,[sp,#176]
    str x9,[x30,#X(30)]
    ldr x9,[sp,#168]
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
    ldp x29,x30,[sp],#192
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size through_probe,.-through_probe

    .section .note.GNU-stack,"",%progbits
