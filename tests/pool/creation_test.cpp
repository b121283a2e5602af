// SPDX-License-Identifier: MIT
// What create() refuses, what it leaves behind then, and what it costs.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "address_space.hpp"
#include "pools.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::Counted;
using test::CountingMemory;

struct Frame {
    std::uint64_t words[8];
};

template <class T>
Error refusal(PoolOptions<T> options) {
    CountingMemory memory;
    options.memory = &memory;
    const auto pool = ObjectPool<T>::create(options);
    EXPECT_FALSE(pool);
    EXPECT_EQ(memory.allocations(), 0);
    return pool ? Error{} : pool.error();
}

TEST(PoolCreation, RefusesACapacityOutOfRange) {
    struct Big {
        std::byte bytes[std::size_t{1} << 31];
    };
    for (const Error& error :
         {refusal<Frame>({.capacity = 0}), refusal<Frame>({.capacity = pool_capacity_most + 1}),
          refusal<Frame>({.capacity = SIZE_MAX}), refusal<Frame>({.capacity = 2, .alignment = std::size_t{1} << 63})}) {
        EXPECT_EQ(error.code, Errc::capacity_out_of_range);
        EXPECT_NE(error.message().find("16777214"), std::string::npos) << error.message();
    }
    EXPECT_EQ(pool_capacity_most, 16777214u);
    // 32 PiB are no more than there are addresses, but more than a process has.
    const auto pool = ObjectPool<Big>::create({.capacity = pool_capacity_most});
    ASSERT_FALSE(pool);
    EXPECT_EQ(pool.error().code, Errc::out_of_memory);
    EXPECT_EQ(pool.error().os_error, ENOMEM);
}

TEST(PoolCreation, RefusesABadAlignment) {
    for (const std::size_t alignment : {0, 1, 2, 4, 12, 24, 48, 65}) {
        const Error error = refusal<Frame>({.capacity = 2, .alignment = alignment});
        EXPECT_EQ(error.code, Errc::bad_alignment) << alignment;
        EXPECT_NE(error.message().find("power of two"), std::string::npos) << error.message();
    }
}

TEST(PoolCreation, WithoutMemoryLeavesNothing) {
    const long alive = Counted::alive;
    for (const int refused : {1, 2}) {
        CountingMemory memory(refused);
        const auto pool = ObjectPool<Counted>::create({.capacity = 10, .memory = &memory});
        ASSERT_FALSE(pool);
        EXPECT_EQ(pool.error().code, Errc::out_of_memory);
        EXPECT_EQ(memory.allocations(), refused);
        EXPECT_EQ(memory.blocks(), 0u);
        EXPECT_EQ(Counted::alive, alive);
    }
    CountingMemory memory(3);
    EXPECT_TRUE(ObjectPool<Counted>::create({.capacity = 10, .memory = &memory})) << "a third piece is needed";
    EXPECT_EQ(memory.blocks(), 0u);
    EXPECT_EQ(Counted::alive, alive);
}

struct ThrowsAtThird {
    ThrowsAtThird() {
        if (++made == 3) throw std::runtime_error("third");
        ++alive;
    }
    ~ThrowsAtThird() { --alive; }
    static inline int made = 0, alive = 0;
};

TEST(PoolCreation, AConstructorThatThrowsLeavesNothing) {
    CountingMemory memory;
    EXPECT_THROW(static_cast<void>(ObjectPool<ThrowsAtThird>::create({.capacity = 10, .memory = &memory})), std::runtime_error);
    EXPECT_EQ(ThrowsAtThird::made, 3);
    EXPECT_EQ(ThrowsAtThird::alive, 0);
    EXPECT_EQ(memory.allocations(), 2);
    EXPECT_EQ(memory.blocks(), 0u);
}

TEST(PoolCreation, AnOnCreateThatThrowsLeavesNothing) {
    const long alive = Counted::alive;
    for (const int last : {1, 2, 10}) {
        CountingMemory memory;
        int calls = 0;
        const auto throw_at_last = [&](Counted&) {
            if (++calls == last) throw last;
        };
        EXPECT_THROW(
            static_cast<void>(ObjectPool<Counted>::create({.capacity = 10, .memory = &memory, .on_create = throw_at_last})),
            int);
        EXPECT_EQ(calls, last);
        EXPECT_EQ(Counted::alive, alive);
        EXPECT_EQ(memory.blocks(), 0u);
    }
    EXPECT_EQ(Counted::died_twice, 0);
}

TEST(PoolCreation, GivesBackItsMemory) {
    CountingMemory memory;
    {
        auto pool = ObjectPool<Frame>::create({.capacity = 1000, .memory = &memory, .checks = PoolChecks::off});
        ASSERT_TRUE(pool);
        EXPECT_EQ(memory.blocks(), 2u);
        EXPECT_GE(memory.bytes(), 1000 * sizeof(Frame));
        test::push_all(*pool, test::pop_all(*pool));
    }
    EXPECT_EQ(memory.blocks(), 0u);
    EXPECT_EQ(memory.bytes(), 0u);
}

TEST(PoolCreation, GivesBackItsMappings) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer maps memory itself";
    if (test::emulated) GTEST_SKIP() << "the emulator maps memory itself";
    const auto use = [](bool huge_pages) {
        auto pool = ObjectPool<Frame>::create({.capacity = 100'000, .huge_pages = huge_pages, .checks = PoolChecks::off});
        ASSERT_TRUE(pool);
        auto some = ObjectPool<Frame>::create({.capacity = 10, .checks = PoolChecks::off});
        test::push_all(*pool, test::pop_all(*pool));
    };
    use(false);  // what pools share stays
    use(true);
    const std::size_t before = test::count_mappings();
    for (int i = 0; i < 20; ++i) use(i % 2 == 0);
    EXPECT_EQ(test::count_mappings(), before);
}

TEST(PoolCreation, RefusedPoolsGiveBackTheirMappings) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer maps memory itself";
    if (test::emulated) GTEST_SKIP() << "the emulator maps memory itself";
    const auto refuse = [] {
        const auto thrower = [](Counted&) { throw 1; };
        EXPECT_THROW(static_cast<void>(ObjectPool<Counted>::create({.capacity = 5000, .on_create = thrower})), int);
    };
    refuse();
    const std::size_t before = test::count_mappings();
    for (int i = 0; i < 20; ++i) refuse();
    EXPECT_EQ(test::count_mappings(), before);
}

// The largest there is: each number fits, and 2^24 - 1 is not one of them.
TEST(PoolCreation, TheLargestCapacityWorks) {
    if (test::emulated || test::thread_sanitizer) GTEST_SKIP() << "it takes too much memory here";
    auto pool = test::make_pool<char>(pool_capacity_most);
    std::size_t count = 0;
    std::uint64_t sum = 0;
    char* first = nullptr;
    while (char* object = pool.try_pop_raw()) {
        if (first == nullptr || object < first) first = object;
        sum += reinterpret_cast<std::uintptr_t>(object);
        ++count;
    }
    EXPECT_EQ(count, pool_capacity_most);
    EXPECT_EQ(sum - count * reinterpret_cast<std::uintptr_t>(first), count * (count - 1) / 2);
    pool.push(first + pool_capacity_most - 1);
    EXPECT_EQ(pool.try_pop_raw(), first + pool_capacity_most - 1);
}

}  // namespace
}  // namespace dynfunc
