// SPDX-License-Identifier: MIT
// Whether this process may use restartable sequences, and how another CPU's are interrupted.
#pragma once

#include <dynfunc/object_pool.hpp>

#include <cstddef>
#include <cstdint>

namespace dynfunc {

// From the thread pointer to struct rseq, in which the kernel writes the thread's CPU and watches over its sequence; 0: the C
// library has none, or nobody has asked for sequence_support() yet.
DYNFUNC_HIDDEN extern std::ptrdiff_t cpu_area;

struct SequenceSupport {
    std::ptrdiff_t area;  // cpu_area
    const char* refusal;  // why there are none; null: there are
    int os_error;         // errno of the refusing system call, or 0
};

// Asked once per process. Threads: any.  Blocks: shortly, the first time.
const SequenceSupport& sequence_support() noexcept;

// What a thread without sequences last heard about its CPU.
struct CpuGuess {
    unsigned cpu = 0, uses = 0;

    static constexpr unsigned uses_of_an_answer = 64;
    void ask() noexcept;
};
DYNFUNC_HIDDEN [[gnu::tls_model("initial-exec")]] extern thread_local constinit CpuGuess cpu_guess;

// The CPU on which this thread was a moment ago, as the kernel last wrote it into the thread's area; negative: it writes
// nothing there. Async-signal-safe.
[[gnu::always_inline]] inline std::int32_t told_cpu() noexcept {
    const std::ptrdiff_t area = cpu_area;
    return area == 0 ? -1 : detail::Restartable::cpu(area);
}

// For a thread that is told nothing: asked for only now and then. Async-signal-safe; keeps errno.
inline unsigned guessed_cpu() noexcept {
    if (cpu_guess.uses++ % CpuGuess::uses_of_an_answer == 0) cpu_guess.ask();
    return cpu_guess.cpu;
}

// A thread whose area the C library has not given to the kernel yet has zeroes there, or what another thread left, which read
// as the number of a CPU; nobody would interrupt its sequences. The area is made to say that there are none, until the kernel
// writes. For whoever uses pools where a thread begins, before the first use in a thread.  Async-signal-safe; keeps errno.
void mark_thread_without_sequences() noexcept;

// Interrupts every sequence that runs on `cpu`; those that begin afterwards see what the caller wrote before. 0 or errno.
// Async-signal-safe; keeps errno.
int interrupt_sequences(unsigned cpu) noexcept;

// Another number in every child process; in one that no fork handler has seen (raw clone) after notice_new_process(), which who
// marks something with the number calls first.
std::uint64_t process_generation() noexcept;
void notice_new_process() noexcept;

}  // namespace dynfunc
