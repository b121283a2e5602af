// SPDX-License-Identifier: MIT
// Restartable sequences of the object pool, x86-64.
//
// A sequence runs from label 1 to label 2, and its last instruction is the only one that others can see the effect of. If the
// kernel takes the CPU from the thread in between, for another thread, another CPU or a signal handler, it sends the thread to
// label 4 instead of back, and nothing has happened. So no instruction needs a lock prefix, and the number of the CPU, which is
// read inside, is right until the end.
//
//     lea  descriptor, p; mov p, rseq_cs        tells the kernel: from here on I am in the sequence of this descriptor
//  1: mov  cpu_id, p; test; js slow             negative: this thread has no restartable sequences
//     imul block_bytes, p; lea (core, p), p     this CPU's stack
//     mov  (p), n ...                           top: how many objects, whether shut
//     mov  n, (p)                               the commit
//  2: movq $0, rseq_cs                          nothing of this object file is needed any more: it may be unloaded
//
// The descriptor and the way out belong to the code they describe (section flag "?"; a subsection of its section), so that a
// linker that drops one copy of an inline function drops them too. After: Linux, include/uapi/linux/rseq.h; Desnoyers and
// Watson, "Restartable sequences" (Linux Plumbers 2015 ff.).
#pragma once

#include <dynfunc/detail/pool_core.hpp>

namespace dynfunc::detail {

#define DYNFUNC_DETAIL_SEQUENCE_ARM                              \
    ".pushsection .data.rel.ro.dynfunc_rseq,\"aw?\",@progbits\n" \
    ".p2align 5\n"                                               \
    "3: .long 0, 0\n"                                            \
    " .quad 1f, 2f - 1f, 4f\n"                                   \
    ".popsection\n"                                              \
    " leaq 3b(%%rip), %[stack]\n"                                \
    " movq %[stack], %%fs:8(%[area])\n"                          \
    "1:"
#define DYNFUNC_DETAIL_SEQUENCE_BEGIN    \
    DYNFUNC_DETAIL_SEQUENCE_ARM          \
    " movl %%fs:4(%[area]), %k[stack]\n" \
    " testl %k[stack], %k[stack]\n"      \
    " js %l[slow]\n"                     \
    " imulq %[block_bytes], %[stack]\n"  \
    " leaq %c[core_bytes](%[core],%[stack]), %[stack]\n"

// The four bytes before label 4 are what the kernel compares with the word that glibc registered: an undefined instruction.
#define DYNFUNC_DETAIL_SEQUENCE_END \
    "2: movq $0, %%fs:8(%[area])\n" \
    ".subsection 1\n"               \
    " .byte 0x0f, 0xb9, 0x3d\n"     \
    " .long 0x53053053\n"           \
    "4: jmp %l[slow]\n"             \
    ".previous\n"

#define DYNFUNC_DETAIL_SEQUENCE_INPUTS \
    [area] "r"(area), [core] "r"(&core), [block_bytes] "m"(core.block_bytes), [core_bytes] "i"(pool_core_bytes)

// `area` as in PoolCore, not 0.
struct Restartable {
    // A thread's own copy of struct rseq, seen from here.
    static std::byte* thread_pointer() noexcept {
        std::byte* pointer;
        asm("movq %%fs:0, %0" : "=r"(pointer));
        return pointer;
    }

    // What the kernel last wrote; negative: this thread has no restartable sequences.
    static std::int32_t cpu(std::ptrdiff_t area) noexcept {
        std::int32_t cpu;
        asm volatile("movl %%fs:4(%1), %0" : "=r"(cpu) : "r"(area));
        return cpu;
    }

    // As before a thread is registered (RSEQ_CPU_ID_UNINITIALIZED); the kernel writes over it.
    static void set_no_cpu(std::ptrdiff_t area) noexcept { asm volatile("movl $-1, %%fs:4(%0)" : : "r"(area) : "memory"); }

    // Of a sequence that was left half-way: as its last instruction, which it did not reach.
    static void leave(std::ptrdiff_t area) noexcept { asm volatile("movq $0, %%fs:8(%0)" : : "r"(area) : "memory"); }

    // False: nothing to be had. `at` is the stack that is empty or shut; null: the sequence was interrupted, or this thread has
    // none.
    [[gnu::always_inline]] static bool pop(const PoolCore& core, std::ptrdiff_t area, void*& object, PoolStack*& at) noexcept {
        std::uint64_t stack, top, slot;
        void* found;
        asm volatile goto(DYNFUNC_DETAIL_SEQUENCE_BEGIN
                          " movq (%[stack]), %[top]\n"
                          " xorl %k[found], %k[found]\n"
                          " leal -1(%[top]), %k[slot]\n"
                          " movzbl %b[slot], %k[slot]\n"
                          " cmpl %[last], %k[slot]\n"  // empty: 255; shut: 127 and more
                          " ja 2f\n"
                          " movq %c[slots](%[stack],%[slot],8), %[found]\n"
                          " addq %[popped], %[top]\n"
                          " movq %[top], (%[stack])\n" DYNFUNC_DETAIL_SEQUENCE_END
                          : [stack] "=&r"(stack), [top] "=&r"(top), [slot] "=&r"(slot), [found] "=&r"(found)
                          : DYNFUNC_DETAIL_SEQUENCE_INPUTS, [last] "i"(pool_stack_count - 1), [popped] "i"(pool_stack_popped),
                            [slots] "i"(pool_stack_slots)
                          : "memory", "cc"
                          : slow);
        object = found;
        at = reinterpret_cast<PoolStack*>(stack);
        return found != nullptr;
    slow:
        leave(area);
        at = nullptr;
        return false;
    }

    // False: no room here (full, shut, no sequences), or the sequence was interrupted.
    [[gnu::always_inline]] static bool push(const PoolCore& core, std::ptrdiff_t area, void* object) noexcept {
        std::uint64_t stack, top, slot;
        asm volatile goto(
            DYNFUNC_DETAIL_SEQUENCE_BEGIN
            " movq (%[stack]), %[top]\n"
            " movzbl %b[top], %k[slot]\n"
            " cmpl %[limit], %k[slot]\n"  // shut: 128 and more
            " jae %l[slow]\n"
            " movq %[object], %c[slots](%[stack],%[slot],8)\n"
            " incq %[top]\n"
            " movq %[top], (%[stack])\n" DYNFUNC_DETAIL_SEQUENCE_END
            : [stack] "=&r"(stack), [top] "=&r"(top), [slot] "=&r"(slot)
            : DYNFUNC_DETAIL_SEQUENCE_INPUTS, [object] "r"(object), [limit] "m"(core.limit), [slots] "i"(pool_stack_slots)
            : "memory", "cc"
            : slow);
        return true;
    slow:
        leave(area);
        return false;
    }

    // Adds one to a number that only threads on `cpu` change, each in such a sequence. False:
    // this thread runs elsewhere, or the sequence was interrupted.
    [[gnu::always_inline]] static bool count(std::ptrdiff_t area, unsigned cpu, std::uint64_t& number) noexcept {
        std::uint64_t descriptor;
        asm volatile goto(DYNFUNC_DETAIL_SEQUENCE_ARM
                          " cmpl %[cpu], %%fs:4(%[area])\n"
                          " jne %l[slow]\n"
                          " incq %[number]\n" DYNFUNC_DETAIL_SEQUENCE_END
                          : [stack] "=&r"(descriptor), [number] "+m"(number)
                          : [area] "r"(area), [cpu] "r"(cpu)
                          : "memory", "cc"
                          : slow);
        return true;
    slow:
        leave(area);
        return false;
    }
};

#undef DYNFUNC_DETAIL_SEQUENCE_INPUTS
#undef DYNFUNC_DETAIL_SEQUENCE_END
#undef DYNFUNC_DETAIL_SEQUENCE_BEGIN
#undef DYNFUNC_DETAIL_SEQUENCE_ARM

}  // namespace dynfunc::detail
