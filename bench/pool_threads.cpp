// SPDX-License-Identifier: MIT
#include "pool_threads.hpp"

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "harness.hpp"

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

class Turn {
public:
    explicit Turn(const Load& load) : load_(load) {}

    Outcome run(const std::function<void(Worker&)>& work) {
        std::vector<Worker> workers;
        workers.reserve(load_.threads);
        std::vector<std::exception_ptr> failures(load_.threads);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < load_.threads; ++i) {
            Worker& worker = workers.emplace_back(*this, i);
            threads.emplace_back([&worker, &work, &failure = failures[i], this] {
                pin_to(allowed_cpus()[worker.index() % allowed_cpus().size()]);
                try {
                    work(worker);
                } catch (...) {
                    failure = std::current_exception();
                    ready_.fetch_add(1, std::memory_order_relaxed);  // in case it never started: nobody waits for it
                }
            });
        }
        while (ready_.load(std::memory_order_relaxed) < load_.threads) sched_yield();
        const double begin = now(Clock::wall);
        go_.store(true, std::memory_order_release);
        std::this_thread::sleep_for(std::chrono::duration<double>(load_.seconds));
        stop_.store(true, std::memory_order_relaxed);
        for (std::thread& thread : threads) thread.join();
        for (const std::exception_ptr& failure : failures)
            if (failure) std::rethrow_exception(failure);
        return sum(workers, begin);
    }

private:
    friend class Worker;

    Outcome sum(const std::vector<Worker>& workers, double begin) const {
        Outcome all{};
        double end = begin, cpu_ns = 0;
        for (const Worker& worker : workers) {
            all.hits += worker.hits_;
            all.misses += worker.misses_;
            all.interrupts += worker.interrupts_;
            all.misses_in_interrupts += worker.misses_in_interrupts_;
            cpu_ns += worker.cpu_ns_;
            end = std::max(end, worker.end_);
        }
        all.seconds = (end - begin) / 1e9;
        all.cpu_share = cpu_ns / ((end - begin) * static_cast<double>(std::min(load_.threads, allowed_cpus().size())));
        return all;
    }

    const Load& load_;
    // Lines of their own: one is written while the others are asked.
    alignas(2 * cache_line) std::atomic<std::size_t> ready_ = 0;
    alignas(2 * cache_line) std::atomic<bool> go_ = false;
    alignas(2 * cache_line) std::atomic<bool> stop_ = false;
};

void Worker::start() {
    turn_.ready_.fetch_add(1, std::memory_order_relaxed);
    while (!turn_.go_.load(std::memory_order_acquire)) sched_yield();
    cpu_begin_ = now(Clock::thread_cpu);
}

bool Worker::stopped() const { return turn_.stop_.load(std::memory_order_relaxed); }

void Worker::finish() {
    cpu_ns_ = now(Clock::thread_cpu) - cpu_begin_;
    end_ = now(Clock::wall);
}

Outcome run_threads(const Load& load, const std::function<void(Worker&)>& work) { return Turn(load).run(work); }

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

Patience::Patience(const Load& load) : yields_(load.threads > allowed_cpus().size()) {}

void Patience::yield() { sched_yield(); }

}  // namespace bench::pool
