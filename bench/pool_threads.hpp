// SPDX-License-Identifier: MIT
// What threads of the bench "pool" do beside popping and pushing: signal handlers that take part, and waiting for a partner.
#pragma once

#include "pool_load.hpp"

namespace bench::pool {

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
