// SPDX-License-Identifier: MIT
// Threads that have no restartable sequences, in a pool whose other threads have.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <vector>

#include "pools.hpp"
#include "rseq_area.hpp"
#include "sequences.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

struct Item {
    std::uint64_t n, unused;
};

class PoolThread : public testing::Test {
protected:
    void SetUp() override {
        if (*test::no_sequences_because() != '\0') GTEST_SKIP() << test::no_sequences_because();
        bool lost = false;
        std::thread([&] { lost = test::lose_sequences(); }).join();
        if (!lost) GTEST_SKIP() << "the kernel refuses to unregister the C library's area";
    }
    // In a thread of its own, which has no sequences.
    template <class Body>
    static void without_sequences(Body&& body) {
        std::thread([&] {
            ASSERT_TRUE(test::lose_sequences());
            body();
        }).join();
    }
    static ObjectPool<Item> make(std::size_t capacity) { return test::make_pool<Item>(capacity, PoolBackEnd::restartable); }
};

TEST_F(PoolThread, WithoutSequencesPopsAndPushesAll) {
    for (const std::size_t capacity : {1, 3, 40, 1000}) {
        auto pool = make(capacity);
        without_sequences([&] {
            for (int round = 0; round < 3; ++round) EXPECT_EQ(test::count_free(pool), capacity);
        });
        EXPECT_EQ(test::count_free(pool), capacity);
        EXPECT_EQ(pool.counters().hits, 4 * capacity);
        EXPECT_EQ(pool.counters().misses, 4u);
        EXPECT_EQ(pool.close(), 0u);
    }
}

TEST_F(PoolThread, WithoutSequencesReachesWhatStacksHold) {
    for (const std::size_t capacity : {1, 7, 40, 1000}) {
        auto pool = make(capacity);
        for (int i = 0; i < 100; ++i) pool.push(pool.try_pop_raw());  // some lie in this CPU's stack now
        std::vector<Item*> objects;
        without_sequences([&] { objects = test::pop_all(pool); });
        EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), capacity);
        EXPECT_FALSE(pool.try_pop());
        without_sequences([&] { test::push_all(pool, objects); });
        EXPECT_EQ(test::count_free(pool), capacity);
    }
}

TEST_F(PoolThread, WithoutSequencesIsCountedExactly) {
    auto pool = make(50);
    without_sequences([&] {
        errno = ERANGE;
        const auto objects = test::pop_all(pool);
        EXPECT_EQ(pool.counters().hits, 50u);
        EXPECT_EQ(pool.counters().misses, 1u);
        for (int i = 0; i < 9; ++i) EXPECT_EQ(pool.try_pop_raw(), nullptr);
        EXPECT_EQ(pool.counters().misses, 10u);
        test::push_all(pool, objects);
        EXPECT_EQ(errno, ERANGE);
    });
    EXPECT_EQ(pool.counters().hits, 50u);
    EXPECT_LE(pool.counters().steals, 50u);
}

// Threads with and without sequences take from each other: what the ones have in stacks, the others in lists.
TEST_F(PoolThread, WithoutSequencesWorkBesideThreadsWithThem) {
    constexpr std::size_t capacity = 30;
    auto pool = make(capacity);
    const auto all = test::pop_all(pool);
    Item* const first = *std::min_element(all.begin(), all.end());
    test::push_all(pool, all);
    const PoolCounters before = pool.counters();
    std::vector<std::atomic<int>> owner(capacity);
    std::atomic<long> wrong{0}, hits{0}, misses{0};
    std::vector<std::thread> threads;
    for (int thread = 1; thread <= 6; ++thread)
        threads.emplace_back([&, thread] {
            if (thread % 2 == 0 && !test::lose_sequences()) ++wrong;
            std::vector<Item*> held;
            for (int i = 0; i < 30'000; ++i) {
                if (Item* object = pool.try_pop_raw()) {
                    if (owner[static_cast<std::size_t>(object - first)].exchange(thread) != 0) ++wrong;
                    held.push_back(object);
                    hits.fetch_add(1, std::memory_order_relaxed);
                } else {
                    misses.fetch_add(1, std::memory_order_relaxed);
                }
                while (held.size() > static_cast<std::size_t>(i / 100 % 12)) {
                    if (owner[static_cast<std::size_t>(held.back() - first)].exchange(0) != thread) ++wrong;
                    pool.push(held.back());
                    held.pop_back();
                }
            }
            for (Item* object : held) {
                owner[static_cast<std::size_t>(object - first)] = 0;
                pool.push(object);
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(pool.counters().hits - before.hits, static_cast<std::uint64_t>(hits));
    EXPECT_EQ(pool.counters().misses - before.misses, static_cast<std::uint64_t>(misses));
    EXPECT_EQ(test::count_free(pool), capacity);
    EXPECT_EQ(pool.close(), 0u);
}

TEST_F(PoolThread, WithoutSequencesGivesBackToAClosedPool) {
    const long alive = test::Counted::alive;
    {
        auto pool = test::make_pool<test::Counted>(20, PoolBackEnd::restartable);
        auto kept = pool.try_pop();
        EXPECT_EQ(pool.close(), 1u);
        without_sequences([&] { kept = Pooled<test::Counted>(); });
        EXPECT_EQ(test::Counted::alive, alive + 20);
    }
    EXPECT_EQ(test::Counted::alive, alive);
}

}  // namespace
}  // namespace dynfunc
