// SPDX-License-Identifier: MIT
// Inside of planted.hpp. %c1 of each piece of assembly is the trampoline of `step`. Every piece but the immediate has its own
// section; its address is taken right there, so that no linker drops it.
#define TRAMPOLINE "S"(&Step::call)
#define PLANT(section, content, end, symbol)             \
    ".pushsection " section "\n.p2align 4\n" content end \
    ".popsection\n"                                      \
    " adrp %0," symbol "\n add %0,%0,:lo12:" symbol "\n"
// As data: a word that would lead there.
#define LOOKS_LIKE(branch, kind) " .reloc .,R_AARCH64_" kind ",%c1\n .long " branch "\n"
#define LOOKS_LIKE_A_CALL LOOKS_LIKE("0x94000000", "CALL26")
#define LOOKS_LIKE_A_JUMP LOOKS_LIKE("0x14000000", "JUMP26")

// Between two functions, in no unwind table. As an object, so that a disassembler takes it for what it is.
ONCE static const unsigned char* bytes_between_functions() {
    const unsigned char* bytes;
    asm volatile(PLANT(".text.planted,\"ax\",@progbits",
                       "planted_gap:\n" LOOKS_LIKE_A_CALL LOOKS_LIKE_A_JUMP LOOKS_LIKE_A_CALL " .long 0\n"
                       ".type planted_gap,%%object\n",
                       ".size planted_gap,.-planted_gap\n", "planted_gap")
                 : "=r"(bytes)
                 : TRAMPOLINE);
    return bytes;
}

// Constant data, which some linkers put into the executable segment.
ONCE static const unsigned char* bytes_in_constants() {
    const unsigned char* bytes;
    asm volatile(PLANT(".rodata.planted,\"a\",@progbits", "planted_constant:\n" LOOKS_LIKE_A_CALL " .long 0\n",
                       ".size planted_constant,.-planted_constant\n", "planted_constant")
                 : "=r"(bytes)
                 : TRAMPOLINE);
    return bytes;
}

// A function that calls and of which no unwind table knows: its call stays as it is, and works.
ONCE static int call_without_unwind_table(int x) {
    int (*code)(int);
    asm volatile(PLANT(".text.planted_bare,\"ax\",@progbits",
                       "planted_bare:\n hint #34\n stp x29,x30,[sp,#-16]!\n bl %c1\n ldp x29,x30,[sp],#16\n ret\n",
                       ".type planted_bare,%%function\n.size planted_bare,.-planted_bare\n", "planted_bare")
                 : "=r"(code)
                 : TRAMPOLINE);
    return code(x);
}

// Literals in the middle of a function, beside a call that is one.
ONCE static unsigned long immediate(int x, int& sum) {
    sum += sites::step(x);
    unsigned long value;
    asm volatile(
        " b 1f\n .p2align 3\n"
        "planted_immediate:\n" LOOKS_LIKE_A_CALL LOOKS_LIKE_A_JUMP
        ".type planted_immediate,%%notype\n.size planted_immediate,.-planted_immediate\n"
        "1: ldr %0,planted_immediate\n"
        : "=r"(value)
        : TRAMPOLINE);
    sum += sites::step(x + 1);
    return value;
}

// Calls as only assemblers make them: behind instructions that compilers seldom make (and that this processor need not have:
// skipped), and at the end of a function twice.
ONCE static int call_by_hand(int x) {
    int (*code)(int);
    asm volatile(PLANT(".text.by_hand,\"ax\",@progbits",
                       "by_hand:\n.cfi_startproc\n hint #34\n"
                       " stp x29,x30,[sp,#-32]!\n.cfi_def_cfa_offset 32\n.cfi_offset x29,-32\n.cfi_offset x30,-24\n"
                       " str x19,[sp,#16]\n.cfi_offset x19,-16\n"
                       " mov w19,w0\n"
                       " bl %c1\n"
                       " add w0,w0,w19\n add w0,w0,#1\n"
                       " bl %c1\n"
                       " b 1f\n"
                       " ldxr x1,[x2]\n stxr w3,x1,[x2]\n\n"
                       " .inst 0x04a30041\n"  // add z1.s, z2.s, z3.s
                       " .inst 0xf8bfc041\n"  // ldapr x1, [x2]
                       " .inst 0xf83f0020\n"  // ldadd xzr, x0, [x1]
                       " .inst 0xd65f0bff\n"  // retaa
                       " fmadd d0,d1,d2,d3\n tbl v0.16b,{v1.16b,v2.16b},v3.16b\n"
                       " prfm pldl1keep,[x0]\n brk #7\n .inst 0\n yield\n"
                       "1: ldr x19,[sp,#16]\n"
                       " ldp x29,x30,[sp],#32\n.cfi_def_cfa_offset 0\n"
                       " tbnz w0,#0,2f\n"
                       " b %c1\n"
                       "2: b %c1\n"
                       ".cfi_endproc\n",
                       ".type by_hand,%%function\n.size by_hand,.-by_hand\n", "by_hand")
                 : "=r"(code)
                 : TRAMPOLINE);
    return code(x);
}

#undef LOOKS_LIKE_A_JUMP
#undef LOOKS_LIKE_A_CALL
#undef LOOKS_LIKE
#undef PLANT
#undef TRAMPOLINE
