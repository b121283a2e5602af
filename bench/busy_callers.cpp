// SPDX-License-Identifier: MIT
#include "busy_callers.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "harness.hpp"

namespace bench {
namespace {

constexpr double patience_ns = 5e3;  // a caller that is on its core advances in well under a microsecond
constexpr double round_budget_ns = 40e6;
constexpr std::size_t wanted_samples = 50, fewest_samples = 3;

}  // namespace

std::size_t BusyCallers::other_cores() { return allowed_cpus().size() - 1; }

BusyCallers::BusyCallers(void (*call)(), std::size_t count) : observed_(std::min(count, other_cores())) {
    for (std::size_t i = 0; i < count; ++i) {
        Caller& caller = *callers_.emplace_back(std::make_unique<Caller>());
        const int cpu = allowed_cpus()[i % allowed_cpus().size()];
        caller.thread = std::thread([this, call, cpu, &caller] {
            pin_to(cpu);
            // One writer per counter: a plain increment, so that the caller is no slower than its calls.
            while (!stop_.load(std::memory_order_relaxed)) {
                call();
                caller.calls.store(caller.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            }
        });
    }
}

BusyCallers::~BusyCallers() {
    stop_.store(true, std::memory_order_relaxed);
    for (const auto& caller : callers_) caller->thread.join();
}

bool BusyCallers::advances(const Caller& caller) const noexcept {
    const std::uint64_t before = caller.calls.load(std::memory_order_relaxed);
    const double begin = now(Clock::wall);
    while (caller.calls.load(std::memory_order_relaxed) == before)
        if (now(Clock::wall) - begin > patience_ns) return false;
    return true;
}

bool BusyCallers::all_advance() const noexcept {
    return std::all_of(callers_.begin(), callers_.begin() + static_cast<std::ptrdiff_t>(observed_),
                       [this](const auto& caller) { return advances(*caller); });
}

double median_latency(const BusyCallers& callers, const std::function<void()>& operation, const std::function<void()>& prepare,
                      const std::function<void()>& undo) {
    std::vector<double> samples;
    std::size_t tried = 0;
    const double end = now(Clock::wall) + round_budget_ns;
    // A slow operation takes more than the budget: as often as a median needs.
    while (samples.size() < wanted_samples && (now(Clock::wall) < end || (tried > 0 && tried < fewest_samples))) {
        if (!callers.all_advance()) {
            // Other work has a caller's core. Spinning until it comes back would only cost this thread its own turn.
            std::this_thread::sleep_for(std::chrono::microseconds(100));
            continue;
        }
        ++tried;
        if (prepare) prepare();
        const bool ran_before = callers.all_advance();
        const double begin = now(Clock::wall);
        operation();
        const double ns = now(Clock::wall) - begin;
        if (ran_before && callers.all_advance()) samples.push_back(ns);
        if (undo) undo();
    }
    return samples.size() < fewest_samples ? std::nan("") : median(std::move(samples));
}

}  // namespace bench
