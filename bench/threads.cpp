// SPDX-License-Identifier: MIT
#include "threads.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <thread>
#include <vector>

#include "harness.hpp"

namespace bench {
namespace {

void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace

bool Burst::oversubscribed() const { return threads > allowed_cpus().size(); }

double Outcome::ns() const { return hits == 0 ? std::nan("") : seconds * 1e9 / static_cast<double>(hits); }

double Outcome::each_thread_ns() const { return hits == 0 ? std::nan("") : cpu_ns / static_cast<double>(hits); }

class Turn {
public:
    explicit Turn(const Burst& burst) : burst_(burst) {}

    Outcome run(const std::function<void(Worker&)>& work) {
        std::vector<Worker> workers;
        workers.reserve(burst_.threads);
        std::vector<std::exception_ptr> failures(burst_.threads);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < burst_.threads; ++i) {
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
        while (ready_.load(std::memory_order_relaxed) < burst_.threads) sched_yield();
        warming_.store(burst_.warm_up > 0, std::memory_order_relaxed);
        double begin = now(Clock::wall);
        go_.store(true, std::memory_order_release);
        if (burst_.warm_up > 0) {
            sleep_for(burst_.warm_up);
            begin = now(Clock::wall);
            warming_.store(false, std::memory_order_relaxed);
        }
        sleep_for(burst_.seconds);
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
        double end = begin;
        for (const Worker& worker : workers) {
            all.hits += worker.hits_;
            all.misses += worker.misses_;
            all.interrupts += worker.interrupts_;
            all.misses_in_interrupts += worker.misses_in_interrupts_;
            all.cpu_ns += worker.cpu_ns_;
            end = std::max(end, worker.end_);
        }
        all.seconds = (end - begin) / 1e9;
        all.cpu_share = all.cpu_ns / ((end - begin) * static_cast<double>(std::min(burst_.threads, allowed_cpus().size())));
        return all;
    }

    const Burst& burst_;
    // Lines of their own: one is written while the others are asked.
    alignas(2 * cache_line) std::atomic<std::size_t> ready_ = 0;
    alignas(2 * cache_line) std::atomic<bool> go_ = false;
    alignas(2 * cache_line) std::atomic<bool> warming_ = false;
    alignas(2 * cache_line) std::atomic<bool> stop_ = false;
};

void Worker::start() {
    turn_.ready_.fetch_add(1, std::memory_order_relaxed);
    while (!turn_.go_.load(std::memory_order_acquire)) sched_yield();
    begin();
}

bool Worker::warming() const { return turn_.warming_.load(std::memory_order_relaxed); }

bool Worker::stopped() const { return turn_.stop_.load(std::memory_order_relaxed); }

void Worker::begin() { cpu_begin_ = now(Clock::thread_cpu); }

void Worker::finish() {
    cpu_ns_ = now(Clock::thread_cpu) - cpu_begin_;
    end_ = now(Clock::wall);
}

std::vector<std::size_t> scaling_threads(bool quick) {
    return quick ? std::vector<std::size_t>{1, 2, 8} : std::vector<std::size_t>{1, 2, 4, 8, 16, 32, 64};
}

Burst scaling_burst(std::size_t threads, bool quick) {
    Burst burst{.threads = threads, .seconds = quick ? 0.010 : 0.020, .warm_up = quick ? 0.003 : 0.006};
    // Longer where threads take turns.
    if (burst.oversubscribed()) burst.seconds *= 2.5;
    return burst;
}

Outcome run_threads(const Burst& burst, const std::function<void(Worker&)>& work) { return Turn(burst).run(work); }

}  // namespace bench
