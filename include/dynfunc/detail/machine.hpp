// SPDX-License-Identifier: MIT
// The only place that asks which machine this is: DYNFUNC_DETAIL_OF_MACHINE(site) is the header site_<machine>.hpp.
#pragma once

#include <cstdint>

#include <dynfunc/detail/config.hpp>

// DYNFUNC_DETAIL_SYMBOL: how assembly is given the address of a hidden symbol: arm64's "i" refuses symbols in
// position-independent code.
// DYNFUNC_DETAIL_BARE(operand): how assembly names a constant operand without the sign of an immediate ($5, #5). Where
// instructions have no such sign, compilers may refuse to leave it out (riscv64).
// DYNFUNC_DETAIL_FRAME_RULE: the unwind rules of generated code, which has set up its frame pointer wherever it calls. Not
// defined: there is none.
// DYNFUNC_DETAIL_NO_VECTORS: of a function that the compiler may use no vector register in.
// DYNFUNC_DETAIL_INLINE_NO_VECTORS: of one that such functions call: compilers inline there only what has the same attribute.
// DYNFUNC_DETAIL_THREAD_SANITIZER: defined in a build with it. It knows nothing of what machine code orders.
// DYNFUNC_DETAIL_COUNT(word): adds one to a word of 8 bytes that this thread alone writes, its signal handlers included,
// inline: x86 by one instruction, which needs no lock; arm64 by a store that fails if a handler came in between, where
// compilers call a function for atomic additions. What the thread did before is done when others see it.
#if defined(__SANITIZE_THREAD__)
#define DYNFUNC_DETAIL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DYNFUNC_DETAIL_THREAD_SANITIZER 1
#endif
#endif

#if !DYNFUNC_GENERIC_SITES && defined(__x86_64__)
#define DYNFUNC_DETAIL_OF_MACHINE(part) <dynfunc/detail/part##_x86.hpp>
#define DYNFUNC_DETAIL_NO_VECTORS [[gnu::target("general-regs-only")]]
#define DYNFUNC_DETAIL_INLINE_NO_VECTORS [[gnu::always_inline, gnu::target("general-regs-only")]]
#ifndef DYNFUNC_DETAIL_THREAD_SANITIZER
#define DYNFUNC_DETAIL_COUNT(word) asm volatile("addq $1, %0" : "+m"(word) : : "cc", "memory")
#endif
#define DYNFUNC_DETAIL_SYMBOL "i"
#define DYNFUNC_DETAIL_FRAME_RULE ".cfi_def_cfa rbp,16\n.cfi_offset rbp,-16\n"
#elif !DYNFUNC_GENERIC_SITES && defined(__aarch64__)
#define DYNFUNC_DETAIL_OF_MACHINE(part) <dynfunc/detail/part##_arm64.hpp>
#define DYNFUNC_DETAIL_NO_VECTORS [[gnu::target("general-regs-only")]]
#define DYNFUNC_DETAIL_INLINE_NO_VECTORS
#ifndef DYNFUNC_DETAIL_THREAD_SANITIZER
#define DYNFUNC_DETAIL_COUNT(word)                                  \
    do {                                                            \
        std::uint64_t dynfunc_sum;                                  \
        std::uint32_t dynfunc_failed;                               \
        asm volatile(                                               \
            "1: ldxr %0, %2\n"                                      \
            " add %0, %0, #1\n"                                     \
            " stlxr %w1, %0, %2\n"                                  \
            " cbnz %w1, 1b"                                         \
            : "=&r"(dynfunc_sum), "=&r"(dynfunc_failed), "+Q"(word) \
            :                                                       \
            : "memory");                                            \
    } while (false)
#endif
#define DYNFUNC_DETAIL_SYMBOL "S"
#define DYNFUNC_DETAIL_FRAME_RULE ".cfi_def_cfa x29,16\n.cfi_offset x30,-8\n.cfi_offset x29,-16\n"
#else
#define DYNFUNC_DETAIL_OF_MACHINE(part) <dynfunc/detail/part##_generic.hpp>
#define DYNFUNC_DETAIL_NO_VECTORS
#define DYNFUNC_DETAIL_INLINE_NO_VECTORS
#if defined(__aarch64__)
#define DYNFUNC_DETAIL_SYMBOL "S"
#else
#define DYNFUNC_DETAIL_SYMBOL "i"
#endif
#endif

#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__arm__)
#define DYNFUNC_DETAIL_BARE(operand) "%c" #operand
#else
#define DYNFUNC_DETAIL_BARE(operand) "%" #operand
#endif

#ifndef DYNFUNC_DETAIL_COUNT
#define DYNFUNC_DETAIL_COUNT(word) static_cast<void>(__atomic_fetch_add(&(word), 1, __ATOMIC_RELEASE))
#endif
