// SPDX-License-Identifier: MIT
#include "pool_threads.hpp"

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace bench::pool {

const char* to_string(Mode mode) noexcept {
    switch (mode) {
        case Mode::at_once:
            return "A";
        case Mode::bulk:
            return "B";
        case Mode::misses:
            return "C";
        case Mode::handed_over:
            return "X";
        default:
            return "interrupt";
    }
}

namespace {

// What the handler does in this thread. Constant-initialised, in the program: reading it calls nothing.
struct Interrupted {
    Interrupts::Interrupt interrupt = nullptr;
    void* context = nullptr;
    std::uint64_t hits = 0, misses = 0;
};
constinit thread_local Interrupted interrupted;

void on_timer(int) {
    if (interrupted.interrupt == nullptr) return;
    ++(interrupted.interrupt(interrupted.context) ? interrupted.hits : interrupted.misses);
}

constexpr int timer_signal = SIGALRM;
constexpr long interval_ns = 50'000;

}  // namespace

Interrupts::Interrupts(Interrupt interrupt, void* context) {
    static const int installed = [] {
        struct sigaction action {};
        action.sa_handler = &on_timer;
        action.sa_flags = SA_RESTART;
        return sigaction(timer_signal, &action, nullptr);
    }();
    if (installed != 0) throw std::runtime_error("sigaction refuses a handler");
    interrupted = {interrupt, context};
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = timer_signal;
    event._sigev_un._tid = gettid();  // glibc 2.36 has no other name for it
    timer_t timer{};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        throw std::system_error(errno, std::system_category(), "timer_create");
    timer_ = timer;
    const itimerspec every{.it_interval = {0, interval_ns}, .it_value = {0, interval_ns}};
    timer_settime(timer, 0, &every, nullptr);
}

void Interrupts::stop(Worker& worker) {
    if (interrupted.interrupt == nullptr) return;
    timer_delete(static_cast<timer_t>(timer_));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    interrupted.interrupt = nullptr;  // one may still be on its way
    std::atomic_signal_fence(std::memory_order_seq_cst);
    worker.count_interrupts(interrupted.hits, interrupted.misses);
}

Interrupts::~Interrupts() {
    if (interrupted.interrupt != nullptr) {
        timer_delete(static_cast<timer_t>(timer_));
        interrupted.interrupt = nullptr;
    }
}

Patience::Patience(const Load& load) : yields_(load.burst().oversubscribed()) {}

void Patience::yield() { sched_yield(); }

}  // namespace bench::pool
