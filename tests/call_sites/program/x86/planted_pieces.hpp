// SPDX-License-Identifier: MIT
// Inside of planted.hpp. %c1 of each piece of assembly is the trampoline of `step`. Every piece but the immediate has its own
// section, so that no compiler puts it into the middle of a function; its address is taken right there, so that no linker drops
// it.
#define TRAMPOLINE "i"(&Step::call)
#define PLANT(section, content, end)                     \
    ".pushsection " section "\n.p2align 4\n" content end \
    ".popsection\n"                                      \
    " lea "
#define LOOKS_LIKE_A_CALL " .byte 0xe8\n .long %c1-.-4\n"

// Between two functions, in no unwind table. As an object, so that a disassembler takes it for what it is.
ONCE static const unsigned char* bytes_between_functions() {
    const unsigned char* bytes;
    asm volatile(PLANT(".text.planted,\"ax\",@progbits",
                       "planted_gap:\n" LOOKS_LIKE_A_CALL " .byte 0x0f,0x84\n .long %c1-.-4\n .byte 0xe9\n .long %c1-.-4\n"
                       ".type planted_gap,@object\n",
                       ".size planted_gap,.-planted_gap\n") "planted_gap(%%rip),%0"
                 : "=r"(bytes)
                 : TRAMPOLINE);
    return bytes;
}

// Constant data, which some linkers put into the executable segment.
ONCE static const unsigned char* bytes_in_constants() {
    const unsigned char* bytes;
    asm volatile(PLANT(".rodata.planted,\"a\",@progbits", "planted_constant:\n" LOOKS_LIKE_A_CALL " .byte 0,0,0\n",
                       ".size planted_constant,.-planted_constant\n") "planted_constant(%%rip),%0"
                 : "=r"(bytes)
                 : TRAMPOLINE);
    return bytes;
}

// A function that calls and of which no unwind table knows: its call stays as it is, and works.
ONCE static int call_without_unwind_table(int x) {
    int (*code)(int);
    asm volatile(PLANT(".text.planted_bare,\"ax\",@progbits",
                       "planted_bare:\n endbr64\n sub $8,%%rsp\n call %c1\n add $8,%%rsp\n ret\n",
                       ".type planted_bare,@function\n.size planted_bare,.-planted_bare\n") "planted_bare(%%rip),%0"
                 : "=r"(code)
                 : TRAMPOLINE);
    return code(x);
}

// An immediate operand in the middle of a function, beside a call that is one.
ONCE static unsigned long immediate(int x, int& sum) {
    sum += sites::step(x);
    unsigned long value;
    asm volatile("planted_immediate: .byte 0x48,0xb8\n" LOOKS_LIKE_A_CALL
                 " .byte 0,0,0\n"
                 ".type planted_immediate,@notype\n.size planted_immediate,.-planted_immediate\n"
                 : "=a"(value)
                 : TRAMPOLINE);
    sum += sites::step(x + 1);
    return value;
}

// Calls as linkers and assemblers make them: through the table of addresses, which the linker makes direct ones of, behind a
// prefix; with prefixes; behind instructions that compilers seldom make (and that this processor need not have: skipped).
ONCE static int call_by_hand(int x) {
    int (*code)(int);
    asm volatile(PLANT(".text.by_hand,\"ax\",@progbits",
                       "by_hand:\n.cfi_startproc\n endbr64\n"
                       " push %%rbx\n.cfi_def_cfa_offset 16\n.cfi_offset rbx,-16\n"
                       " mov %%edi,%%ebx\n"
                       " call *%c1@GOTPCREL(%%rip)\n"
                       " lea 1(%%rax,%%rbx),%%edi\n"
                       " .byte 0xf2\n call %c1\n"  // bnd
                       " jmp 1f\n"
                       " vaddps %%zmm1,%%zmm2,%%zmm3\n"
                       " vpternlogd $0x55,64(%%rdi,%%rax,4),%%zmm17,%%zmm18%{%%k1%}%{z%}\n"
                       " vpgatherqq %%ymm1,(%%rsi,%%ymm2,8),%%ymm3\n"
                       " movabs $0x1122334455667788,%%r9\n"
                       " movabs 0x1122334455667788,%%al\n"
                       " fldcw (%%rsp)\n xbegin 1f\n xend\n rdfsbase %%rax\n lock cmpxchg16b (%%rdi)\n"
                       " enter $8,$1\n crc32q %%rax,%%rcx\n sha256rnds2 %%xmm1,%%xmm2\n vaesenc %%ymm1,%%ymm2,%%ymm3\n"
                       " notrack jmp *%%rax\n ud2\n rdsspq %%rcx\n rep stosq\n endbr64\n"
                       "1: mov %%eax,%%edi\n"
                       " test %%eax,%%eax\n"
                       " pop %%rbx\n.cfi_def_cfa_offset 8\n"
                       " .byte 0x2e\n jne %c1\n"  // a hint
                       " .byte 0x2e\n jmp %c1\n"
                       " jmp *%c1@GOTPCREL(%%rip)\n"
                       ".cfi_endproc\n",
                       ".type by_hand,@function\n.size by_hand,.-by_hand\n") "by_hand(%%rip),%0"
                 : "=r"(code)
                 : TRAMPOLINE);
    return code(x);
}

#undef LOOKS_LIKE_A_CALL
#undef PLANT
#undef TRAMPOLINE
