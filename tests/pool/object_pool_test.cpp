// SPDX-License-Identifier: MIT
// What a pool promises to its user, with each back end that the process has.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "pools.hpp"

namespace dynfunc {
namespace {

using test::Counted;

struct Frame {
    std::uint64_t n;
    std::byte rest[56];
};

static_assert(!std::is_copy_constructible_v<Pooled<Frame>> && std::is_nothrow_move_constructible_v<Pooled<Frame>>);
static_assert(!std::is_copy_constructible_v<ObjectPool<Frame>> && std::is_nothrow_move_assignable_v<ObjectPool<Frame>>);

// Each test runs with what the environment or the machine chooses (none), and with each back end by name.
class ObjectPoolOf : public testing::TestWithParam<std::optional<PoolBackEnd>> {
protected:
    void SetUp() override {
        if (GetParam() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
    }
    template <class T>
    static ObjectPool<T> make(std::size_t capacity) {
        return test::make_pool<T>(capacity, GetParam());
    }
    template <class T>
    static PoolOptions<T> options(std::size_t capacity) {
        return {.capacity = capacity, .checks = PoolChecks::off, .back_end = GetParam()};
    }
};

TEST_P(ObjectPoolOf, GivesEachObjectOnceAndThenMisses) {
    for (const std::size_t capacity : {1, 2, 3, 7, 8, 100, 1000}) {
        auto pool = make<Frame>(capacity);
        EXPECT_EQ(pool.capacity(), capacity);
        for (int round = 0; round < 3; ++round) {
            const auto objects = test::pop_all(pool);
            EXPECT_EQ(objects.size(), capacity);
            EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), capacity);
            EXPECT_FALSE(pool.try_pop());
            test::push_all(pool, objects);
        }
    }
}

TEST_P(ObjectPoolOf, APooledObjectGoesBackAtTheEndOfItsScope) {
    auto pool = make<Frame>(1);
    Frame* first = nullptr;
    {
        auto frame = pool.try_pop();
        ASSERT_TRUE(frame);
        first = frame.get();
        frame->n = 7;
        EXPECT_EQ(&*frame, first);
        EXPECT_FALSE(pool.try_pop());
    }
    auto again = pool.try_pop();
    EXPECT_EQ(again.get(), first);
    EXPECT_EQ(again->n, 7u);
}

TEST_P(ObjectPoolOf, APooledObjectMoves) {
    auto pool = make<Frame>(2);
    auto a = pool.try_pop();
    Frame* const object = a.get();
    Pooled<Frame> b(std::move(a));
    EXPECT_FALSE(a);
    EXPECT_EQ(b.get(), object);

    auto c = pool.try_pop();
    ASSERT_TRUE(c);
    EXPECT_FALSE(pool.try_pop());
    c = std::move(b);  // what c had goes back
    EXPECT_FALSE(b);
    EXPECT_EQ(c.get(), object);
    EXPECT_TRUE(pool.try_pop());
    c = Pooled<Frame>();
    EXPECT_FALSE(c);
    EXPECT_EQ(test::count_free(pool), 2u);
}

// Whether it keeps the object is not said; it is not lost, and not given back twice.
TEST_P(ObjectPoolOf, AMoveToItselfLosesNothing) {
    auto pool = make<Frame>(2);
    {
        auto a = pool.try_pop();
        auto& same = a;
        a = std::move(same);
    }
    EXPECT_EQ(test::count_free(pool), 2u);
}

TEST_P(ObjectPoolOf, AReleasedObjectStaysOutUntilItIsPushed) {
    auto pool = make<Frame>(1);
    auto frame = pool.try_pop();
    Frame* const object = frame.release();
    EXPECT_FALSE(frame);
    EXPECT_EQ(frame.release(), nullptr);
    EXPECT_FALSE(pool.try_pop());
    pool.push(object);
    EXPECT_EQ(pool.try_pop().get(), object);
}

TEST_P(ObjectPoolOf, TheHandleMoves) {
    auto pool = make<Frame>(2);
    auto frame = pool.try_pop();
    auto moved = std::move(pool);
    EXPECT_EQ(moved.capacity(), 2u);
    auto other = make<Frame>(5);
    other = std::move(moved);  // closes the pool of five
    EXPECT_EQ(other.capacity(), 2u);
    EXPECT_EQ(test::count_free(other), 1u);
}

TEST_P(ObjectPoolOf, AnyThreadMayGiveBack) {
    auto pool = make<Frame>(100);
    for (int round = 0; round < 20; ++round) {
        auto objects = test::pop_all(pool);
        ASSERT_EQ(objects.size(), 100u);
        for (Frame* object : objects) object->n = static_cast<std::uint64_t>(round);
        std::thread([&] { test::push_all(pool, objects); }).join();
        auto frame = pool.try_pop();
        ASSERT_TRUE(frame);
        EXPECT_EQ(frame->n, static_cast<std::uint64_t>(round));
    }
}

TEST_P(ObjectPoolOf, CountsExactlyWhileNobodyPopsOrPushes) {
    for (const std::size_t capacity : {1, 5, 64, 3000}) {
        auto pool = make<Frame>(capacity);
        EXPECT_EQ(pool.counters(), (PoolCounters{0, 0, 0}));
        std::uint64_t hits = 0, misses = 0;
        for (int round = 0; round < 5; ++round) {
            std::thread([&] {
                const auto objects = test::pop_all(pool);
                hits += objects.size();
                for (int i = 0; i < round; ++i) EXPECT_EQ(pool.try_pop_raw(), nullptr);
                misses += 1 + static_cast<std::uint64_t>(round);
                test::push_all(pool, objects);
            }).join();
            for (int i = 0; i < 1000; ++i) hits += static_cast<bool>(pool.try_pop());
            EXPECT_EQ(pool.counters().hits, hits);
            EXPECT_EQ(pool.counters().misses, misses);
            EXPECT_LE(pool.counters().steals, hits);
        }
        EXPECT_EQ(hits, 5 * (capacity + 1000));
    }
}

TEST_P(ObjectPoolOf, CountsExactlyWhatManyThreadsDid) {
    auto pool = make<Frame>(24);
    std::atomic<std::uint64_t> hits{0}, misses{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.emplace_back([&] {
            std::uint64_t some_hits = 0, some_misses = 0;
            std::vector<Frame*> held;
            for (int i = 0; i < 20'000; ++i) {
                if (Frame* object = pool.try_pop_raw()) {
                    held.push_back(object);
                    ++some_hits;
                } else {
                    ++some_misses;
                }
                if (held.size() < static_cast<std::size_t>(1 + i % 9)) continue;
                test::push_all(pool, held);
                held.clear();
            }
            test::push_all(pool, held);
            hits += some_hits;
            misses += some_misses;
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(pool.counters().hits, hits);
    EXPECT_EQ(pool.counters().misses, misses);
    EXPECT_LE(pool.counters().steals, hits);
    EXPECT_EQ(test::count_free(pool), 24u);
}

TEST_P(ObjectPoolOf, EachFunctionKeepsErrno) {
    errno = ERANGE;
    auto pool = make<Frame>(40);
    EXPECT_EQ(errno, ERANGE) << "create()";
    std::thread([&] {
        errno = ERANGE;
        const auto objects = test::pop_all(pool);  // ends in a miss
        EXPECT_EQ(errno, ERANGE) << "try_pop()";
        test::push_all(pool, objects);
        for (int i = 0; i < 2000; ++i) pool.push(pool.try_pop_raw());
        EXPECT_EQ(errno, ERANGE) << "push()";
    }).join();
    errno = ERANGE;
    const auto objects = test::pop_all(pool);
    EXPECT_EQ(objects.size(), 40u);
    for (std::size_t i = 1; i < objects.size(); ++i) pool.push(objects[i]);
    static_cast<void>(pool.counters());
    EXPECT_EQ(errno, ERANGE) << "counters()";
    pool.close();
    EXPECT_EQ(errno, ERANGE) << "close()";
    EXPECT_EQ(pool.try_pop_raw(), nullptr);
    pool.push(objects[0]);
    EXPECT_EQ(errno, ERANGE) << "of a closed pool";
    { const auto gone = std::move(pool); }
    EXPECT_EQ(errno, ERANGE) << "its end";
}

template <std::size_t bytes>
struct Sized {
    std::byte value[bytes];
};

template <class T>
void expect_apart(ObjectPool<T>& pool, std::size_t stride, std::size_t alignment) {
    auto objects = test::pop_all(pool);
    ASSERT_EQ(objects.size(), pool.capacity());
    std::sort(objects.begin(), objects.end());
    for (std::size_t i = 0; i < objects.size(); ++i) {
        const auto at = reinterpret_cast<std::uintptr_t>(objects[i]);
        EXPECT_EQ(at % alignment, 0u);
        EXPECT_EQ(at - reinterpret_cast<std::uintptr_t>(objects[0]), i * stride);
    }
    test::push_all(pool, objects);
    EXPECT_EQ(test::count_free(pool), pool.capacity());
}

TEST_P(ObjectPoolOf, ObjectsLieSideBySide) {
    const auto packed = [](auto sized, std::size_t stride) {
        auto pool = make<decltype(sized)>(50);
        expect_apart(pool, stride, alignof(decltype(sized)));
    };
    packed(Sized<1>{}, 1);
    packed(Sized<3>{}, 3);
    packed(Sized<24>{}, 24);
    packed(Sized<64>{}, 64);
    packed(Sized<100>{}, 100);
    packed(Sized<4096>{}, 4096);
    packed(Frame{}, 64);
    packed('c', 1);
}

TEST_P(ObjectPoolOf, AlignmentGivesEachObjectCacheLinesOfItsOwn) {
    const auto aligned = [](auto sized, std::size_t alignment, std::size_t stride) {
        auto chosen = options<decltype(sized)>(50);
        chosen.alignment = alignment;
        auto pool = ObjectPool<decltype(sized)>::create(chosen);
        ASSERT_TRUE(pool);
        expect_apart(*pool, stride, alignment);
    };
    aligned(Sized<1>{}, 64, 64);
    aligned(Sized<64>{}, 64, 64);
    aligned(Sized<65>{}, 64, 128);
    aligned(Sized<24>{}, 16, 32);
    aligned(Sized<5000>{}, 4096, 8192);
    aligned(std::uint64_t{}, 8, 8);
    test::CountingMemory memory;
    auto chosen = options<Sized<24>>(10);
    chosen.alignment = 64;
    chosen.memory = &memory;
    auto pool = ObjectPool<Sized<24>>::create(chosen);
    ASSERT_TRUE(pool);
    expect_apart(*pool, 64, 64);
}

TEST_P(ObjectPoolOf, AHugePageOrNot) {
    auto chosen = options<Frame>(100);
    chosen.huge_pages = true;
    auto pool = ObjectPool<Frame>::create(chosen);
    ASSERT_TRUE(pool);
    expect_apart(*pool, 64, 64);
}

TEST_P(ObjectPoolOf, ObjectsAreMadeOnceAndDieOnce) {
    const long before = Counted::alive;
    std::multiset<Counted*> created;
    {
        auto chosen = options<Counted>(300);
        chosen.on_create = [&](Counted& object) {
            object.value = 5 + created.size();
            created.insert(&object);
        };
        auto pool = ObjectPool<Counted>::create(chosen);
        ASSERT_TRUE(pool);
        EXPECT_EQ(Counted::alive, before + 300);
        std::set<std::uint64_t> values;
        for (int round = 0; round < 3; ++round) {
            const auto objects = test::pop_all(*pool);
            for (Counted* object : objects) values.insert(object->value);
            test::push_all(*pool, objects);
        }
        EXPECT_EQ(values.size(), 300u);
        EXPECT_EQ(*values.begin(), 5u);
        EXPECT_EQ(Counted::alive, before + 300);
    }
    EXPECT_EQ(created.size(), 300u);
    EXPECT_EQ(std::set(created.begin(), created.end()).size(), 300u);
    EXPECT_EQ(Counted::alive, before);
    EXPECT_EQ(Counted::died_twice, 0);
}

TEST_P(ObjectPoolOf, MappedObjectsOfATrivialTypeAreZero) {
    auto pool = make<Frame>(1000);
    const auto objects = test::pop_all(pool);
    EXPECT_EQ(objects.size(), 1000u);
    for (Frame* object : objects) EXPECT_EQ(object->n, 0u);
    test::push_all(pool, objects);
}

std::string name_of(const testing::TestParamInfo<std::optional<PoolBackEnd>>& info) {
    return info.param ? to_string(*info.param) : "chosen";
}
INSTANTIATE_TEST_SUITE_P(By, ObjectPoolOf,
                         testing::Values(std::nullopt, PoolBackEnd::restartable, PoolBackEnd::tagged, PoolBackEnd::single),
                         name_of);

TEST(ObjectPool, OneListIsNeverStolenFrom) {
    auto pool = test::make_pool<Frame>(100, PoolBackEnd::single);
    for (int i = 0; i < 10; ++i) std::thread([&] { EXPECT_EQ(test::count_free(pool), 100u); }).join();
    EXPECT_EQ(pool.counters(), (PoolCounters{1000, 10, 0}));
}

}  // namespace
}  // namespace dynfunc
