// SPDX-License-Identifier: MIT
// Children of fork() and of a raw clone go on with the pool, each with its own copy, whatever other threads were doing.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "child.hpp"
#include "pools.hpp"
#include "sequences.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

struct Item {
    std::uint64_t n, unused;
};

pid_t by_fork(int (*body)()) { return test::start_child(body); }
pid_t by_raw_clone(int (*body)()) { return test::start_raw_child(body); }

// Pools and what is known of them, for a child that gets no arguments.
struct Known {
    ObjectPool<Item>* pool = nullptr;
    Item* first = nullptr;
    std::size_t capacity = 0, free = 0;
} known;

class PoolFork : public testing::TestWithParam<std::tuple<pid_t (*)(int (*)()), PoolBackEnd>> {
protected:
    void SetUp() override {
        if (back_end() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
        if (test::thread_sanitizer && start() == by_raw_clone) GTEST_SKIP() << "the sanitizer takes the child for a thread";
    }
    static pid_t (*start())(int (*)()) { return std::get<0>(GetParam()); }
    static PoolBackEnd back_end() { return std::get<1>(GetParam()); }
    static ObjectPool<Item> make(std::size_t capacity) {
        auto pool = test::make_pool<Item>(capacity, back_end());
        const auto all = test::pop_all(pool);
        known.first = *std::min_element(all.begin(), all.end());
        known.capacity = known.free = capacity;
        test::push_all(pool, all);
        return pool;
    }
    void expect_42(int (*body)()) {
        const test::Ended ended = test::wait_for(start()(body));
        EXPECT_EQ(ended.status, 42) << "signal " << ended.signal;
    }
};

// Different objects of the pool; no allocation, for another thread may have held the allocator's lock at the fork.
int pop_all_once(Item** objects, std::size_t& count) {
    static bool seen[1000];
    std::fill_n(seen, known.capacity, false);
    count = 0;
    while (Item* object = known.pool->try_pop_raw()) {
        const auto index = static_cast<std::size_t>(object - known.first);
        if (index >= known.capacity) return 1;
        if (seen[index]) return 2;
        seen[index] = true;
        objects[count++] = object;
    }
    return 0;
}

TEST_P(PoolFork, AChildHasTheFreeObjects) {
    for (const std::size_t capacity : {1, 30, 500}) {
        auto pool = make(capacity);
        known.pool = &pool;
        auto kept = pool.try_pop();
        known.free = capacity - 1;
        for (int i = 0; i < 3; ++i)
            expect_42([] {
                Item* objects[1000];
                std::size_t count = 0;
                for (int round = 0; round < 3; ++round) {
                    if (const int wrong = pop_all_once(objects, count); wrong != 0) return wrong;
                    if (count != known.free) return 3;
                    for (std::size_t j = 0; j < count; ++j) known.pool->push(objects[j]);
                }
                return 42;
            });
        EXPECT_EQ(test::count_free(pool), capacity - 1);
    }
}

TEST_P(PoolFork, ParentAndChildDoNotSeeEachOthersPopsAndPushes) {
    auto pool = make(40);
    known.pool = &pool;
    std::vector<Item*> taken;
    for (int i = 0; i < 10; ++i) taken.push_back(pool.try_pop_raw());
    known.free = 30;
    static int to_child[2];
    ASSERT_EQ(pipe(to_child), 0);
    const pid_t child = start()([] {
        char token;
        if (read(to_child[0], &token, 1) != 1) return 1;
        Item* objects[40];
        std::size_t count = 0;
        if (const int wrong = pop_all_once(objects, count); wrong != 0) return 10 + wrong;
        return count == known.free ? 42 : 2;
    });
    test::push_all(pool, taken);
    EXPECT_EQ(test::count_free(pool), 40u);
    EXPECT_EQ(write(to_child[1], "", 1), 1);
    EXPECT_EQ(test::wait_for(child).status, 42);
    EXPECT_EQ(test::count_free(pool), 40u);
    for (int end : to_child) close(end);
}

TEST_P(PoolFork, AChildMakesAndClosesPools) {
    auto pool = make(40);
    known.pool = &pool;
    auto kept = pool.try_pop();
    expect_42([] {
        if (known.pool->close() != 1) return 1;
        if (known.pool->try_pop_raw() != nullptr) return 2;
        auto own = test::make_pool<Item>(20, known.pool->back_end());
        if (test::count_free(own) != 20) return 3;
        if (own.back_end() != known.pool->back_end()) return 4;
        return own.close() == 0 ? 42 : 5;
    });
    EXPECT_EQ(test::count_free(pool), 39u);
}

TEST_P(PoolFork, GrandchildrenAreProcessesOfTheirOwn) {
    auto pool = make(40);
    known.pool = &pool;
    static pid_t (*start_one)(int (*)());
    start_one = start();
    expect_42([] {
        auto taken = known.pool->try_pop();
        known.free = 39;
        const pid_t grandchild = start_one([] {
            Item* objects[40];
            std::size_t count = 0;
            if (const int wrong = pop_all_once(objects, count); wrong != 0) return wrong;
            return count == known.free ? 42 : 3;
        });
        if (test::wait_for(grandchild).status != 42) return 1;
        Item* objects[40];
        std::size_t count = 0;
        if (const int wrong = pop_all_once(objects, count); wrong != 0) return 10 + wrong;
        return count == known.free ? 42 : 4;
    });
    EXPECT_EQ(test::count_free(pool), 40u);
}

// The child is made at any moment of other threads' moves, also while one of them has shut another CPU's stack. What it finds
// it can pop and push again and again.
TEST_P(PoolFork, WhileOtherThreadsDrainEachOther) {
    if (test::emulated && start() == by_raw_clone) GTEST_SKIP() << "the emulator's own locks stay held in the child";
    for (const std::size_t capacity : {6, 40}) {
        auto pool = make(capacity);
        known.pool = &pool;
        std::atomic<bool> stop{false};
        std::vector<std::thread> threads;
        for (unsigned thread = 1; thread <= 3; ++thread)
            threads.emplace_back([&, thread] {
                std::minstd_rand random(thread);
                std::vector<Item*> held;
                while (!stop) {
                    // Long runs of few objects open the stacks; now and then everything is wanted.
                    const std::size_t most = random() % 1000 == 0 ? capacity : 1 + random() % 2;
                    if (Item* object = pool.try_pop_raw()) held.push_back(object);
                    while (held.size() >= most) {
                        pool.push(held.back());
                        held.pop_back();
                    }
                }
                test::push_all(pool, held);
            });
        for (int i = 0; i < test::rounds(20) && !HasFailure(); ++i) {
            const pid_t child = start()([] {
                alarm(20);
                Item* objects[1000];
                std::size_t count = 0, again = 0;
                if (const int wrong = pop_all_once(objects, count); wrong != 0) return wrong;
                for (std::size_t j = 0; j < count; ++j) known.pool->push(objects[j]);
                for (int round = 0; round < 3; ++round) {
                    if (const int wrong = pop_all_once(objects, again); wrong != 0) return 10 + wrong;
                    if (again != count) return 3;
                    for (std::size_t j = 0; j < again; ++j) known.pool->push(objects[j]);
                }
                const std::size_t out = known.pool->close();
                return out == known.capacity - count ? 42 : 4;
            });
            const test::Ended ended = test::wait_for(child);
            EXPECT_EQ(ended.status, 42) << "signal " << ended.signal << " in child " << i;
        }
        stop = true;
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(test::count_free(pool), capacity);
        EXPECT_EQ(pool.close(), 0u);
    }
}

std::string name_of(const testing::TestParamInfo<PoolFork::ParamType>& info) {
    return std::string(std::get<0>(info.param) == &by_fork ? "Fork" : "RawClone") + "_" + to_string(std::get<1>(info.param));
}
INSTANTIATE_TEST_SUITE_P(By, PoolFork,
                         testing::Combine(testing::Values(&by_fork, &by_raw_clone),
                                          testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged, PoolBackEnd::single)),
                         name_of);

}  // namespace
}  // namespace dynfunc
