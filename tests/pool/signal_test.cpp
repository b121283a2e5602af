// SPDX-License-Identifier: MIT
// Handlers that pop and push, at any instruction of pop and push, also within each other.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <vector>

#include "pools.hpp"
#include "surroundings.hpp"
#include "thread_timer.hpp"

namespace dynfunc {
namespace {

struct Item {
    std::atomic<int> owner{0};
};
constexpr int in_loop = 1, in_handler = 2;

class PoolSignal : public testing::TestWithParam<PoolBackEnd> {
protected:
    void SetUp() override {
        if (GetParam() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
        hits_ = misses_ = wrong_ = handled_ = 0;
    }
    static void take(Item* object, int owner) {
        if (object->owner.exchange(owner) != 0) ++wrong_;
        ++hits_;
    }
    static void give(Item* object, int owner) {
        if (object->owner.exchange(0) != owner) ++wrong_;
        pool_->push(object);
    }
    static void handle(int) {
        const int before = errno;
        errno = EDOM;
        Item* held[3] = {};
        for (Item*& object : held) {
            object = pool_->try_pop_raw();
            if (object != nullptr)
                take(object, in_handler);
            else
                ++misses_;
        }
        for (Item* object : held)
            if (object != nullptr) give(object, in_handler);
        if (errno != EDOM) ++wrong_;
        errno = before;
        ++handled_;
    }

    static inline ObjectPool<Item>* pool_;
    static inline std::atomic<long> hits_, misses_, wrong_, handled_;
};

TEST_P(PoolSignal, HandlersPopAndPushAtAnyInstruction) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer keeps signals back";
    for (const std::size_t capacity : {2, 10, 100}) {
        auto pool = test::make_pool<Item>(capacity, GetParam());
        pool_ = &pool;
        hits_ = misses_ = handled_ = 0;
        {
            // Two signals, each of which interrupts the other's handler and its own.
            const long slower = test::slow ? 20 : 1;  // than handlers are
            const test::ThreadTimer alarms(SIGALRM, &handle, slower * 40'000), others(SIGUSR1, &handle, slower * 61'000);
            errno = ERANGE;
            std::size_t held_most = 1;
            std::vector<Item*> held;
            while (handled_ < 800) {
                for (int i = 0; i < 100; ++i) {
                    if (Item* object = pool.try_pop_raw()) {
                        take(object, in_loop);
                        held.push_back(object);
                    } else {
                        ++misses_;
                    }
                    while (held.size() >= held_most) {
                        give(held.back(), in_loop);
                        held.pop_back();
                    }
                }
                held_most = held_most % capacity + 1;
            }
            while (!held.empty()) {
                give(held.back(), in_loop);
                held.pop_back();
            }
            EXPECT_EQ(errno, ERANGE);
        }
        EXPECT_EQ(wrong_, 0);
        EXPECT_EQ(pool.counters().hits, static_cast<std::uint64_t>(hits_));
        EXPECT_EQ(pool.counters().misses, static_cast<std::uint64_t>(misses_));
        EXPECT_EQ(test::count_free(pool), capacity);
        EXPECT_EQ(pool.close(), 0u);
    }
}

// The last object goes back in a handler, which frees the pool.
TEST_P(PoolSignal, AHandlerMayFreeAClosedPool) {
    static Pooled<test::Counted> kept;
    const long alive = test::Counted::alive;
    {
        auto pool = test::make_pool<test::Counted>(10, GetParam());
        kept = pool.try_pop();
    }
    EXPECT_EQ(test::Counted::alive, alive + 10);
    struct sigaction action {
    }, before{};
    action.sa_handler = [](int) { kept = Pooled<test::Counted>(); };
    sigaction(SIGUSR1, &action, &before);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &before, nullptr);
    EXPECT_EQ(test::Counted::alive, alive);
}

INSTANTIATE_TEST_SUITE_P(By, PoolSignal, testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged, PoolBackEnd::single),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace dynfunc
