// SPDX-License-Identifier: MIT
// Restartable sequences of the object pool, arm64. What a sequence is: restartable_x86.hpp.
//
//     adrp, add descriptor; str rseq_cs        as there
//  1: ldr  cpu_id, w; cmp 0; b.lt slow         negative: this thread has no restartable sequences
//     madd w * block_bytes + core              this CPU's stack
//     ldr  top ...; str top                    the commit
//  2: str  xzr, rseq_cs
//
// Nothing here orders memory. Threads of one CPU see each other's writes because the kernel's switch between them is a barrier;
// the slot's address depends on `top`; who shuts or opens a stack from elsewhere orders it by a membarrier or a release.
#pragma once

#include <dynfunc/detail/pool_core.hpp>

namespace dynfunc::detail {

#define DYNFUNC_DETAIL_SEQUENCE_ARM                              \
    ".pushsection .data.rel.ro.dynfunc_rseq,\"aw?\",@progbits\n" \
    ".p2align 5\n"                                               \
    "3: .word 0, 0\n"                                            \
    " .xword 1f, 2f - 1f, 4f\n"                                  \
    ".popsection\n"                                              \
    " mrs %[area], tpidr_el0\n"                                  \
    " add %[area], %[area], %[offset]\n"                         \
    " adrp %[stack], 3b\n"                                       \
    " add %[stack], %[stack], :lo12:3b\n"                        \
    " str %[stack], [%[area], #8]\n"                             \
    "1: ldr %w[stack], [%[area], #4]\n"
#define DYNFUNC_DETAIL_SEQUENCE_BEGIN \
    DYNFUNC_DETAIL_SEQUENCE_ARM       \
    " cmp %w[stack], wzr\n"           \
    " b.lt 5f\n"                      \
    " madd %[stack], %[stack], %[block_bytes], %[stacks]\n"

// The four bytes before label 4 are what the kernel compares with the word that glibc registered: a breakpoint.
#define DYNFUNC_DETAIL_SEQUENCE_END \
    "2: str xzr, [%[area], #8]\n"   \
    ".subsection 1\n"               \
    " .inst 0xd428bc00\n"           \
    "4:\n"                          \
    "5: b %l[slow]\n"               \
    ".previous\n"

#define DYNFUNC_DETAIL_SEQUENCE_OUTPUTS [area] "=&r"(area), [stack] "=&r"(stack)
#define DYNFUNC_DETAIL_SEQUENCE_INPUTS                         \
    [offset] "r"(offset), [block_bytes] "r"(core.block_bytes), \
        [stacks] "r"(reinterpret_cast<const std::byte*>(&core) + pool_core_bytes)

// `offset` as `area` in PoolCore, not 0.
struct Restartable {
    static std::byte* thread_pointer() noexcept {
        std::byte* pointer;
        asm("mrs %0, tpidr_el0" : "=r"(pointer));
        return pointer;
    }

    // What the kernel last wrote; negative: this thread has no restartable sequences.
    static std::int32_t cpu(std::ptrdiff_t offset) noexcept {
        return *reinterpret_cast<const volatile std::int32_t*>(thread_pointer() + offset + 4);
    }

    // As before a thread is registered (RSEQ_CPU_ID_UNINITIALIZED); the kernel writes over it.
    static void set_no_cpu(std::ptrdiff_t offset) noexcept {
        *reinterpret_cast<volatile std::int32_t*>(thread_pointer() + offset + 4) = -1;
    }

    // Of a sequence that was left half-way: as its last instruction, which it did not reach. The thread pointer is read here,
    // so that no compiler keeps it in a register for the sake of a way that is seldom gone.
    static void leave(std::ptrdiff_t offset) noexcept {
        std::uint64_t area;
        asm volatile(
            "mrs %0, tpidr_el0\n"
            " add %0, %0, %1\n"
            " str xzr, [%0, #8]"
            : "=&r"(area)
            : "r"(offset)
            : "memory");
    }

    // False: nothing to be had. `at` is the stack that is empty or shut; null: the sequence was interrupted, or this thread has
    // none.
    [[gnu::always_inline]] static bool pop(const PoolCore& core, std::ptrdiff_t offset, void*& object,
                                           PoolStack*& at) noexcept {
        std::uint64_t area, stack, top, slot;
        void* found;
        asm volatile goto(DYNFUNC_DETAIL_SEQUENCE_BEGIN
                          " ldr %[top], [%[stack]]\n"
                          " mov %[found], xzr\n"
                          " sub %w[slot], %w[top], #1\n"
                          " and %[slot], %[slot], #255\n"
                          " cmp %[slot], %[last]\n"  // empty: 255; shut: 127 and more
                          " b.hi 2f\n"
                          " add %[found], %[stack], %[slots]\n"
                          " ldr %[found], [%[found], %[slot], lsl #3]\n"
                          " add %[top], %[top], %[popped]\n"
                          " str %[top], [%[stack]]\n" DYNFUNC_DETAIL_SEQUENCE_END
                          : DYNFUNC_DETAIL_SEQUENCE_OUTPUTS, [top] "=&r"(top), [slot] "=&r"(slot), [found] "=&r"(found)
                          : DYNFUNC_DETAIL_SEQUENCE_INPUTS, [last] "I"(pool_stack_count - 1), [popped] "I"(pool_stack_popped),
                            [slots] "I"(pool_stack_slots)
                          : "memory", "cc"
                          : slow);
        object = found;
        at = reinterpret_cast<PoolStack*>(stack);
        return found != nullptr;
    slow:
        leave(offset);
        at = nullptr;
        return false;
    }

    // False: no room here (full, shut, no sequences), or the sequence was interrupted.
    [[gnu::always_inline]] static bool push(const PoolCore& core, std::ptrdiff_t offset, void* object) noexcept {
        std::uint64_t area, stack, top, slot, room;
        asm volatile goto(
            DYNFUNC_DETAIL_SEQUENCE_BEGIN
            " ldr %[top], [%[stack]]\n"
            " and %[slot], %[top], #255\n"
            " cmp %[slot], %[limit]\n"  // shut: 128 and more
            " b.hs 5f\n"
            " add %[room], %[stack], %[slots]\n"
            " str %[object], [%[room], %[slot], lsl #3]\n"
            " add %[top], %[top], #1\n"
            " str %[top], [%[stack]]\n" DYNFUNC_DETAIL_SEQUENCE_END
            : DYNFUNC_DETAIL_SEQUENCE_OUTPUTS, [top] "=&r"(top), [slot] "=&r"(slot), [room] "=&r"(room)
            : DYNFUNC_DETAIL_SEQUENCE_INPUTS, [object] "r"(object), [limit] "r"(core.limit), [slots] "I"(pool_stack_slots)
            : "memory", "cc"
            : slow);
        return true;
    slow:
        leave(offset);
        return false;
    }

    // Adds one to a number that only threads on `cpu` change, each in such a sequence.
    // False: this thread runs elsewhere, or the sequence was interrupted.
    [[gnu::always_inline]] static bool count(std::ptrdiff_t offset, unsigned cpu, std::uint64_t& number) noexcept {
        std::uint64_t area, stack;
        asm volatile goto(DYNFUNC_DETAIL_SEQUENCE_ARM
                          " cmp %w[stack], %w[cpu]\n"
                          " b.ne 5f\n"
                          " ldr %[stack], [%[number]]\n"
                          " add %[stack], %[stack], #1\n"
                          " str %[stack], [%[number]]\n" DYNFUNC_DETAIL_SEQUENCE_END:DYNFUNC_DETAIL_SEQUENCE_OUTPUTS
                          : [offset] "r"(offset), [cpu] "r"(cpu), [number] "r"(&number)
                          : "memory", "cc"
                          : slow);
        return true;
    slow:
        leave(offset);
        return false;
    }
};

#undef DYNFUNC_DETAIL_SEQUENCE_INPUTS
#undef DYNFUNC_DETAIL_SEQUENCE_OUTPUTS
#undef DYNFUNC_DETAIL_SEQUENCE_END
#undef DYNFUNC_DETAIL_SEQUENCE_BEGIN
#undef DYNFUNC_DETAIL_SEQUENCE_ARM

}  // namespace dynfunc::detail
