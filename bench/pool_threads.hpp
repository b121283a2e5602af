// SPDX-License-Identifier: MIT
// The threads of one burst: pinned round robin over the CPUs, let go together, stopped together, and asked for the CPU time
// they got.
#pragma once

#include <atomic>
#include <functional>

#include "pool_load.hpp"

namespace bench::pool {

class Turn;

// One thread of a burst. It makes its things ready, starts, works until it is stopped, counts, finishes, and tidies up.
class Worker {
public:
    Worker(Turn& turn, std::size_t index) : turn_(turn), index_(index) {}

    std::size_t index() const { return index_; }
    void start();          // returns when all threads are ready
    bool stopped() const;  // asked about every microsecond
    void count(std::uint64_t hits, std::uint64_t misses) { hits_ += hits, misses_ += misses; }
    void count_interrupts(std::uint64_t hits, std::uint64_t misses) {
        count(hits, misses);
        interrupts_ += hits + misses, misses_in_interrupts_ += misses;
    }
    void finish();  // the clock stops here

private:
    friend class Turn;
    Turn& turn_;
    std::size_t index_;
    std::uint64_t hits_ = 0, misses_ = 0, interrupts_ = 0, misses_in_interrupts_ = 0;
    double cpu_begin_ = 0, cpu_ns_ = 0, end_ = 0;
};

// Throws what a thread's work throws.
Outcome run_threads(const Load& load, const std::function<void(Worker&)>& work);

// While it lives, every 50 us a signal handler of this thread calls `interrupt(context)`, which does one pop and, if that was
// a hit, one push. Hits and misses are counted.
class Interrupts {
public:
    using Interrupt = bool (*)(void* context);  // whether the pop was a hit
    Interrupts(Interrupt interrupt, void* context);
    ~Interrupts();
    Interrupts(const Interrupts&) = delete;
    Interrupts& operator=(const Interrupts&) = delete;

    void stop(Worker& worker);  // and hand the counts over

private:
    void* timer_ = nullptr;
};

// Spinning for a partner that may not even have a CPU.
class Patience {
public:
    explicit Patience(const Load& load);
    void wait() {
        if (++spins_ < 200) {
            pause();
            return;
        }
        spins_ = 0;
        if (yields_) yield();
    }

private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }
    static void yield();
    unsigned spins_ = 0;
    bool yields_;  // more threads than CPUs
};

}  // namespace bench::pool
