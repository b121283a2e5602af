// SPDX-License-Identifier: MIT
// The end of a pool, with objects out and with threads that are about to give some back.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <optional>
#include <thread>
#include <vector>

#include "pools.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::Counted;
using test::CountingMemory;

class PoolClose : public testing::Test {
protected:
    void TearDown() override {
        EXPECT_EQ(Counted::alive, 0);
        EXPECT_EQ(Counted::died_twice, 0);
        EXPECT_EQ(memory_.blocks(), 0u);
    }
    ObjectPool<Counted> make(std::size_t capacity, std::optional<PoolBackEnd> back_end = {}) {
        return ObjectPool<Counted>::create(
                   {.capacity = capacity, .memory = &memory_, .checks = PoolChecks::off, .back_end = back_end})
            .value();
    }
    CountingMemory memory_;
};

TEST_F(PoolClose, SaysHowManyAreOut) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        auto pool = make(20, back_end);
        {
            const auto a = pool.try_pop(), b = pool.try_pop();
            EXPECT_EQ(pool.close(), 2u);
        }
        EXPECT_EQ(pool.close(), 0u);
        EXPECT_EQ(pool.capacity(), 20u);
        EXPECT_EQ(pool.back_end(), back_end);
    }
}

TEST_F(PoolClose, OfAFullPoolFindsNothingOut) {
    for (const PoolBackEnd back_end : test::back_ends())
        for (const std::size_t capacity : {1, 2, 30, 1000}) {
            auto pool = make(capacity, back_end);
            test::push_all(pool, test::pop_all(pool));
            EXPECT_EQ(pool.close(), 0u);
            EXPECT_EQ(Counted::alive, static_cast<long>(capacity)) << "objects live as long as the pool";
        }
}

TEST_F(PoolClose, EveryPopMissesAfterwards) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        auto pool = make(20, back_end);
        Counted* const out = pool.try_pop_raw();
        const PoolCounters before = pool.counters();
        pool.close();
        EXPECT_FALSE(pool.try_pop());
        pool.push(out);
        EXPECT_FALSE(pool.try_pop());
        std::thread([&] { EXPECT_FALSE(pool.try_pop()); }).join();
        EXPECT_EQ(pool.counters().hits, before.hits);
        EXPECT_EQ(pool.counters().misses, before.misses + 3);
        EXPECT_EQ(pool.close(), 0u);
    }
}

TEST_F(PoolClose, APooledObjectOutlivesTheHandle) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        Pooled<Counted> kept, other;
        {
            auto pool = make(10, back_end);
            kept = pool.try_pop();
            other = pool.try_pop();
            EXPECT_EQ(Counted::alive, 10);
        }
        EXPECT_EQ(Counted::alive, 10);
        kept->value = 3;
        other = Pooled<Counted>();
        EXPECT_EQ(Counted::alive, 10);
        EXPECT_EQ(kept->value, 3u);
        kept = Pooled<Counted>();
        EXPECT_EQ(Counted::alive, 0) << "the last one frees the pool";
        EXPECT_EQ(memory_.blocks(), 0u);
    }
}

TEST_F(PoolClose, TheLastOneBackMayComeFromAnotherThread) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        std::optional<ObjectPool<Counted>> pool(make(10, back_end));
        std::thread holder([kept = pool->try_pop(), &pool]() mutable {
            pool.reset();
            EXPECT_EQ(Counted::alive, 10);
            kept = Pooled<Counted>();
        });
        holder.join();
        EXPECT_EQ(Counted::alive, 0);
    }
}

TEST_F(PoolClose, ARawObjectIsPushedThroughTheClosedHandle) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        auto pool = make(10, back_end);
        const auto objects = test::pop_all(pool);
        EXPECT_EQ(pool.close(), 10u);
        test::push_all(pool, objects);
        EXPECT_EQ(pool.close(), 0u);
        EXPECT_EQ(Counted::alive, 10) << "the handle keeps the pool";
    }
}

TEST_F(PoolClose, TheHandleGoesWithNothingOut) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        make(10, back_end);
        EXPECT_EQ(Counted::alive, 0);
        static_cast<void>(make(10, back_end).close());
        EXPECT_EQ(Counted::alive, 0);
    }
}

// Objects lie everywhere when the pool closes: in the stacks of all CPUs, in lists, in the hands of threads.
TEST_F(PoolClose, FindsWhatOtherCpusHave) {
    for (const PoolBackEnd back_end : test::back_ends()) {
        auto pool = make(500, back_end);
        std::vector<std::thread> threads;
        std::atomic<int> ready{0};
        std::barrier<> meet(4);
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&] {
                std::vector<Counted*> held;
                for (int j = 0; j < 100; ++j) held.push_back(pool.try_pop_raw());
                meet.arrive_and_wait();
                test::push_all(pool, held);
                ++ready;
            });
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(ready, 4);
        const auto kept = pool.try_pop();
        EXPECT_EQ(pool.close(), 1u);
    }
}

// The handle goes while threads give back what they hold; whoever is last frees the pool, and nobody else.
TEST_F(PoolClose, WhileOtherThreadsPush) {
    constexpr int threads = 4;
    for (const PoolBackEnd back_end : test::back_ends()) {
        std::optional<ObjectPool<Counted>> pool;
        std::atomic<bool> stop{false};
        std::barrier<> begin(threads + 1), end(threads + 1);
        std::vector<std::thread> workers;
        for (std::size_t worker = 0; worker < threads; ++worker)
            workers.emplace_back([&, worker] {
                for (;;) {
                    begin.arrive_and_wait();
                    if (stop) return;
                    std::vector<Pooled<Counted>> held;
                    for (std::size_t i = 0; i < 4 * worker + 1; ++i)
                        if (auto object = pool->try_pop()) held.push_back(std::move(object));
                    end.arrive_and_wait();  // from here on the handle may be gone
                    while (!held.empty()) {
                        held.back()->value = 1;
                        held.pop_back();
                    }
                }
            });
        for (int round = 0; round < test::rounds(400); ++round) {
            constexpr std::size_t capacities[] = {1, 5, 24, 40, 100};
            pool.emplace(make(capacities[round % 5], back_end));
            begin.arrive_and_wait();
            end.arrive_and_wait();
            if (round % 2 == 0) {
                EXPECT_LE(pool->close(), pool->capacity());
            }
            pool.reset();
        }
        stop = true;
        begin.arrive_and_wait();
        for (auto& worker : workers) worker.join();
        EXPECT_EQ(Counted::alive, 0);
    }
}

// As above, but threads pop as well until close() returned.
TEST_F(PoolClose, WhileOtherThreadsPopAndPush) {
    constexpr int threads = 3;
    for (const PoolBackEnd back_end : test::back_ends()) {
        for (int round = 0; round < 30; ++round) {
            std::optional<ObjectPool<Counted>> pool(make(round % 2 == 0 ? 10 : 200, back_end));
            std::atomic<bool> closed{false};
            std::atomic<int> popping{threads};
            std::atomic<long> operations{0};
            std::vector<std::thread> workers;
            for (int worker = 0; worker < threads; ++worker)
                workers.emplace_back([&] {
                    std::vector<Pooled<Counted>> held;
                    while (!closed) {
                        if (auto object = pool->try_pop()) held.push_back(std::move(object));
                        if (held.size() > 5) held.clear();
                        operations.fetch_add(1, std::memory_order_relaxed);
                    }
                    --popping;
                    held.clear();
                });
            while (operations < 500) std::this_thread::yield();
            pool->close();
            closed = true;
            while (popping != 0) std::this_thread::yield();
            EXPECT_FALSE(pool->try_pop());
            pool.reset();
            for (auto& worker : workers) worker.join();
            ASSERT_EQ(Counted::alive, 0);
        }
    }
}

}  // namespace
}  // namespace dynfunc
