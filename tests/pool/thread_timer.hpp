// SPDX-License-Identifier: MIT
// Signals that interrupt one thread again and again, at any instruction.
#pragma once

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

#include "surroundings.hpp"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace dynfunc::test {

// A disposition, for as long as this lives. Handlers interrupt each other and themselves (SA_NODEFER); in a user-mode emulator,
// which takes longer to deliver a signal than there is between two, only each other: they would fill the stack.
class Disposition {
public:
    Disposition(int signal, void (*handler)(int)) : signal_(signal) {
        struct sigaction action {};
        action.sa_handler = handler;
        action.sa_flags = SA_RESTART | (emulated ? 0 : SA_NODEFER);
        sigaction(signal, &action, &before_);
    }
    ~Disposition() { sigaction(signal_, &before_, nullptr); }
    Disposition(const Disposition&) = delete;

private:
    int signal_;
    struct sigaction before_ {};
};

// Sends `signal` to the thread that made it, which also ends it.
class Ticking {
public:
    Ticking(int signal, long nanoseconds) {
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = static_cast<int>(syscall(SYS_gettid));
        if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) throw std::runtime_error("timer_create");
        const itimerspec every{{0, nanoseconds}, {0, nanoseconds}};
        timer_settime(timer_, 0, &every, nullptr);
    }
    ~Ticking() { timer_delete(timer_); }  // also what is pending
    Ticking(const Ticking&) = delete;

private:
    timer_t timer_{};
};

struct ThreadTimer {
    ThreadTimer(int signal, void (*handler)(int), long nanoseconds)
        : disposition(signal, handler), ticking(signal, nanoseconds) {}
    Disposition disposition;
    Ticking ticking;
};

}  // namespace dynfunc::test
