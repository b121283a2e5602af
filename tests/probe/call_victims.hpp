// SPDX-License-Identifier: MIT
// Threads that call the functions of one kind without a pause, interrupted by signals whose handlers call them too.
#pragma once

#include <sched.h>

#include <memory>
#include <thread>
#include <vector>

#include "../pool/thread_timer.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc::test {

class CallVictims {
public:
    static constexpr std::size_t threads = 3;

    explicit CallVictims(const VictimKind& kind) : kind_(kind), disposition_(SIGALRM, &in_handler) {
        running_ = this;
        for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
    }
    ~CallVictims() { stop(); }
    CallVictims(const CallVictims&) = delete;

    void stop() {
        stopped_ = true;
        for (auto& thread : threads_) thread.join();
        threads_.clear();
    }
    // Returns when no thread calls, and no handler of a signal.
    void pause() {
        is_paused_ = true;
        while (waiting_ != threads) sched_yield();
    }
    void go_on() {
        is_paused_ = false;
        while (waiting_ != 0) sched_yield();
    }
    // Until some calls have begun and ended that begin now.
    void wait_for_more(std::size_t place) {
        const std::uint64_t before = calls(place);
        while (calls(place) < before + 2 * threads && wrong_ == 0) sched_yield();
    }

    std::uint64_t calls(std::size_t place) const {
        std::uint64_t sum = 0;
        for (const Counts& each : counts_) sum += each.calls[place].load(std::memory_order_relaxed);
        return sum;
    }
    std::uint64_t calls() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < victim_places; ++i) sum += calls(i);
        return sum;
    }
    long calls_in_signals() const { return in_signals_; }
    long wrong() const { return wrong_; }

private:
    struct alignas(64) Counts {
        std::atomic<std::uint64_t> calls[victim_places]{};
    };

    void call(Counts& counts, std::size_t place, unsigned long a) {
        if (kind_.at[place](a, a + 5, 0) != victim_result(a, a + 5)) ++wrong_;
        counts.calls[place].fetch_add(1, std::memory_order_relaxed);
    }
    static void in_handler(int) {
        if (mine_ == nullptr || running_->is_paused_) return;
        for (std::size_t place = 0; place < victim_places; ++place) running_->call(*mine_, place, 77);
        running_->in_signals_.fetch_add(victim_places, std::memory_order_relaxed);
    }
    void work(std::size_t number) {
        Counts& counts = counts_[number];
        mine_ = &counts;
        {
            const long pause = (is_instrumented || kind_.site_class == SiteClass::breakpoint ? 500'000 : 50'000);
            const Ticking ticking(SIGALRM, pause + 1000 * static_cast<long>(number));
            for (unsigned long a = number; !stopped_; a += threads) {
                if (is_paused_) {
                    ++waiting_;
                    while (is_paused_ && !stopped_) sched_yield();
                    --waiting_;
                    continue;
                }
                for (std::size_t place = 0; place < victim_places; ++place) call(counts, place, a);
            }
        }
        mine_ = nullptr;
    }

    const VictimKind& kind_;
    const Disposition disposition_;
    std::atomic<bool> stopped_{false}, is_paused_{false};
    std::atomic<std::size_t> waiting_{0};
    std::atomic<long> wrong_{0}, in_signals_{0};
    Counts counts_[threads];
    std::vector<std::thread> threads_;

    static inline CallVictims* running_ = nullptr;
    static inline thread_local constinit Counts* mine_ = nullptr;
};

}  // namespace dynfunc::test
