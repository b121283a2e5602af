// SPDX-License-Identifier: MIT
// What every torture test has: how long, and signals.
#pragma once

#include <sys/time.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "surroundings.hpp"

namespace dynfunc::test {

// For as long as DYNFUNC_TORTURE_SECONDS says, calls `look` ten times a second.
template <class Look>
void for_the_torture(Look&& look) {
    const char* seconds = std::getenv("DYNFUNC_TORTURE_SECONDS");
    const auto duration = std::chrono::milliseconds(seconds != nullptr ? static_cast<long>(1000 * std::atof(seconds)) : 10'000);
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        look();
    }
}

// Signals interrupt the threads of the process at any instruction.
class TimerSignals {
public:
    explicit TimerSignals(void (*handler)(int)) {
        struct sigaction action {};
        action.sa_handler = handler;
        if (thread_sanitizer) {
            asked_for = handler;
            action.sa_handler = &with_breakpoints;
        }
        action.sa_flags = SA_RESTART;
        sigaction(SIGALRM, &action, &before_);
        const itimerval every{{0, 500}, {0, 500}};
        setitimer(ITIMER_REAL, &every, nullptr);
    }
    ~TimerSignals() {
        const itimerval never{};
        setitimer(ITIMER_REAL, &never, nullptr);
        sigaction(SIGALRM, &before_, nullptr);
    }
    TimerSignals(const TimerSignals&) = delete;

private:
    // Handlers run with every signal blocked there, and strict updates need one.
    static void with_breakpoints(int signal) {
        sigset_t trap;
        sigemptyset(&trap);
        sigaddset(&trap, SIGTRAP);
        pthread_sigmask(SIG_UNBLOCK, &trap, nullptr);
        asked_for(signal);
    }
    static inline void (*asked_for)(int) = nullptr;

    struct sigaction before_ {};
};

}  // namespace dynfunc::test
