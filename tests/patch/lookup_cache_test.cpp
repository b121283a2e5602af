// SPDX-License-Identifier: MIT
// The cache in front of the table of breakpoints: what it keeps and forgets; and that threads, and signal handlers in the
// middle of them, never get one address's value for another. The control is the same in two stores and two loads, without the
// marks.
#include "lookup_cache.hpp"

#include <gtest/gtest.h>
#include <sys/time.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace dynfunc {
namespace {

constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;

std::optional<std::uint64_t> find(const LookupCache& cache, std::uint64_t at, std::uint64_t generation = 0) {
    std::uint64_t value = 0;
    return cache.find(at, generation, value) ? std::optional(value) : std::nullopt;
}

// Different addresses of one set.
std::vector<std::uint64_t> of_one_set(std::size_t count) {
    std::vector<std::uint64_t> found;
    for (std::uint64_t at = 0x40'0000; found.size() < count; ++at)
        if ((at * golden) >> 52 == 77) found.push_back(at);
    return found;
}

class LookupCacheTest : public testing::Test {
protected:
    const std::unique_ptr<LookupCache> cache_ = std::make_unique<LookupCache>();
};

TEST_F(LookupCacheTest, KeepsFourOfASetAndReplacesTheOldest) {
    const auto at = of_one_set(6);
    EXPECT_FALSE(find(*cache_, at[0]));
    for (std::size_t i = 0; i < 4; ++i) cache_->put(at[i], 0, 100 + i);
    cache_->put(at[0], 0, 100);  // it is there
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(find(*cache_, at[i]), 100 + i);
    cache_->put(at[4], 0, 104);
    EXPECT_FALSE(find(*cache_, at[0]));
    for (std::size_t i = 1; i < 5; ++i) EXPECT_EQ(find(*cache_, at[i]), 100 + i);
    cache_->put(at[5], 0, 105);
    EXPECT_FALSE(find(*cache_, at[1]));
    EXPECT_EQ(find(*cache_, at[2]), 102u);
}

TEST_F(LookupCacheTest, TheNextGenerationForgetsEverything) {
    const auto at = of_one_set(2);
    cache_->put(at[0], 5, 1);
    cache_->put(at[1], 5, ~std::uint64_t{0});
    EXPECT_EQ(find(*cache_, at[1], 5), ~std::uint64_t{0});
    EXPECT_FALSE(find(*cache_, at[0], 6));
    cache_->put(at[0], 6, 2);
    EXPECT_EQ(find(*cache_, at[0], 6), 2u);
    EXPECT_EQ(find(*cache_, at[0], 5), 1u) << "who began before goes on with what was there";
}

TEST_F(LookupCacheTest, WhatItsKeysHaveNoRoomForIsNotKept) {
    constexpr std::uint64_t last = (std::uint64_t{1} << LookupCache::address_bits) - 1;
    constexpr std::uint64_t last_generation = (std::uint64_t{1} << LookupCache::generation_bits) - 1;
    cache_->put(last, last_generation, 1);
    EXPECT_EQ(find(*cache_, last, last_generation), 1u);
    cache_->put(last + 1, 0, 2);
    EXPECT_FALSE(find(*cache_, last + 1));
    cache_->put(last, last_generation + 1, 3);
    EXPECT_FALSE(find(*cache_, last, last_generation + 1));
    EXPECT_FALSE(find(*cache_, 0)) << "an empty entry is none";
}

// What everybody writes first.
class NaiveCache {
public:
    bool find(std::uint64_t at, std::uint64_t, std::uint64_t& value) const {
        for (const Entry& entry : entries_) {
            if (entry.key.load(std::memory_order_acquire) != at) continue;
            value = entry.value.load(std::memory_order_acquire);
            return true;
        }
        return false;
    }
    void put(std::uint64_t at, std::uint64_t, std::uint64_t value) {
        Entry& entry = entries_[next_.fetch_add(1, std::memory_order_relaxed) % LookupCache::ways];
        entry.value.store(value, std::memory_order_release);
        entry.key.store(at, std::memory_order_release);
    }

private:
    struct Entry {
        std::atomic<std::uint64_t> key{0}, value{0};
    };
    Entry entries_[LookupCache::ways];
    std::atomic<unsigned> next_{0};
};

struct Outcome {
    std::atomic<long> found{0}, wrong{0}, in_handlers{0};
};

constexpr std::uint64_t value_of(std::uint64_t at) { return at * golden | 1; }

template <class Cache>
class Contended {
public:
    // Until something is wrong, or so many lookups have found something.
    const Outcome& run(long enough) {
        running_ = this;
        struct sigaction action {
        }, before{};
        action.sa_handler = [](int) {
            // A turn of its own in the middle of another.
            for (unsigned i = 0; i < 8; ++i) running_->turn(running_->at_[i]);
            running_->outcome_.in_handlers.fetch_add(1, std::memory_order_relaxed);
        };
        action.sa_flags = SA_RESTART;
        sigaction(SIGALRM, &action, &before);
        const itimerval tick{{0, 200}, {0, 200}}, never{};
        setitimer(ITIMER_REAL, &tick, nullptr);
        {
            std::vector<std::jthread> threads;
            for (unsigned number = 0; number < 3; ++number)
                threads.emplace_back([this, enough, number] {
                    for (std::uint32_t i = number; outcome_.found < enough && outcome_.wrong == 0; i = i * 1664525 + 1013904223)
                        turn(at_[i >> 16 & 7]);
                });
        }
        setitimer(ITIMER_REAL, &never, nullptr);
        sigaction(SIGALRM, &before, nullptr);
        return outcome_;
    }

private:
    void turn(std::uint64_t at) {
        std::uint64_t value = 0;
        if (!cache_->find(at, 0, value)) return cache_->put(at, 0, value_of(at));
        if (value != value_of(at)) outcome_.wrong.fetch_add(1, std::memory_order_relaxed);
        outcome_.found.fetch_add(1, std::memory_order_relaxed);
    }

    static inline Contended* running_ = nullptr;
    const std::unique_ptr<Cache> cache_ = std::make_unique<Cache>();
    const std::vector<std::uint64_t> at_ = of_one_set(8);  // twice as many as a set has entries
    Outcome outcome_;
};

TEST(LookupCacheStress, NobodyGetsAnothersValue) {
    const auto contended = std::make_unique<Contended<LookupCache>>();
    const Outcome& outcome = contended->run(3'000'000);
    std::printf("%ld found, %ld handlers in the middle\n", outcome.found.load(), outcome.in_handlers.load());
    EXPECT_EQ(outcome.wrong, 0);
}

TEST(LookupCacheControl, WithoutTheMarksItIsNoticed) {
    const auto contended = std::make_unique<Contended<NaiveCache>>();
    EXPECT_GT(contended->run(2'000'000'000).wrong, 0);
}

}  // namespace
}  // namespace dynfunc
