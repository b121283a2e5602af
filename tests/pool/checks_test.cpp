// SPDX-License-Identifier: MIT
// Pushes that break the rules: noticed where a pool checks them, and a foreign object also where it does not.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "child.hpp"
#include "pools.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

constexpr const char* foreign = "dynfunc: an object is pushed into a pool that it does not come from";
constexpr const char* twice = "dynfunc: an object is pushed that is not out";

template <std::size_t bytes>
struct Sized {
    std::uint8_t value[bytes];
};
using Frame = Sized<64>;

class PoolChecksDeathTest : public testing::Test {
protected:
    void SetUp() override {
        if (test::thread_sanitizer) GTEST_SKIP() << "the thread sanitizer does not follow a fork of threads";
    }
};

template <class T>
ObjectPool<T> checked_pool(std::size_t capacity) {
    return ObjectPool<T>::create({.capacity = capacity, .checks = PoolChecks::on}).value();
}

TEST(PoolChecks, CorrectUseGoesUnnoticed) {
    auto pool = checked_pool<Frame>(130);  // more bits than one word has
    for (int i = 0; i < 3; ++i) EXPECT_EQ(test::count_free(pool), 130u);
    {
        auto a = pool.try_pop(), b = pool.try_pop();
        std::swap(a, b);
    }
    EXPECT_EQ(pool.counters().misses, 3u);
    auto kept = pool.try_pop();
    EXPECT_EQ(pool.close(), 1u);
}

TEST_F(PoolChecksDeathTest, AnObjectPushedTwiceEndsTheProcess) {
    auto pool = checked_pool<Frame>(130);
    Frame* const a = pool.try_pop_raw();
    Frame* const b = pool.try_pop_raw();
    pool.push(a);
    EXPECT_DEATH(pool.push(a), twice);
    pool.push(b);
    EXPECT_DEATH(pool.push(b), twice);
    const auto all = test::pop_all(pool);
    pool.push(all[129]);
    EXPECT_DEATH(pool.push(all[129]), twice);
}

TEST_F(PoolChecksDeathTest, AnObjectThatWasNeverOutEndsTheProcess) {
    auto pool = checked_pool<Frame>(2);
    Frame* const object = pool.try_pop_raw();
    Frame* const neighbour = pool.try_pop_raw();
    pool.push(neighbour);
    EXPECT_DEATH(pool.push(neighbour), twice);
    pool.push(object);
}

template <class T>
void expect_foreign_death(ObjectPool<T>& pool) {
    const auto all = test::pop_all(pool);
    T* const first = *std::min_element(all.begin(), all.end());
    static T stranger;
    auto other = checked_pool<T>(10);
    T* const of_other = other.try_pop_raw();
    EXPECT_DEATH(pool.push(&stranger), foreign);
    EXPECT_DEATH(pool.push(of_other), foreign);
    EXPECT_DEATH(pool.push(first - 1), foreign);
    EXPECT_DEATH(pool.push(first + pool.capacity()), foreign);
    EXPECT_DEATH(pool.push(static_cast<T*>(nullptr)), foreign);
    test::push_all(pool, all);
}

TEST_F(PoolChecksDeathTest, AForeignObjectEndsTheProcess) {
    auto even = checked_pool<Frame>(20);
    expect_foreign_death(even);
    auto odd = checked_pool<Sized<7>>(20);
    expect_foreign_death(odd);
    auto mixed = checked_pool<Sized<24>>(20);
    expect_foreign_death(mixed);
}

template <class T>
void expect_middle_death() {
    auto pool = checked_pool<T>(20);
    const auto all = test::pop_all(pool);
    auto* const bytes = reinterpret_cast<std::uint8_t*>(all[5]);
    for (const std::size_t offset : {std::size_t{1}, sizeof(T) / 2, sizeof(T) - 1})
        EXPECT_DEATH(pool.push(reinterpret_cast<T*>(bytes + offset)), foreign) << sizeof(T) << " + " << offset;
    test::push_all(pool, all);
}

TEST_F(PoolChecksDeathTest, APointerIntoTheMiddleOfAnObjectEndsTheProcess) {
    expect_middle_death<Sized<7>>();
    expect_middle_death<Sized<24>>();
    expect_middle_death<Frame>();
}

// Where pushes are not checked, whatever is not inline still sees an object that is not the pool's.
TEST_F(PoolChecksDeathTest, AForeignObjectEndsTheProcessWithoutChecksWhereListsAreUsed) {
    for (const PoolBackEnd back_end : {PoolBackEnd::tagged, PoolBackEnd::single}) {
        auto pool = test::make_pool<Frame>(20, back_end);
        static Frame stranger;
        EXPECT_DEATH(pool.push(&stranger), foreign);
    }
}

TEST_F(PoolChecksDeathTest, TheEnvironmentAsksForChecks) {
    EXPECT_DEATH(
        {
            setenv("DYNFUNC_POOL_CHECKS", "1", 1);
            auto pool = ObjectPool<Frame>::create({.capacity = 20});
            Frame* const object = pool->try_pop_raw();
            pool->push(object);
            pool->push(object);
        },
        twice);
    EXPECT_EQ(test::in_child([] {
                  setenv("DYNFUNC_POOL_CHECKS", "1", 1);
                  const auto pool = ObjectPool<Frame>::create({.capacity = 20});
                  return pool->back_end() == PoolBackEnd::restartable ? 1 : 42;
              }).status,
              42);
}

// A program that says `off` has decided.
TEST(PoolChecks, TheEnvironmentDoesNotAskAgainstTheProgram) {
    EXPECT_EQ(test::in_child([] {
                  const PoolBackEnd before = test::make_pool<Frame>(20).back_end();
                  setenv("DYNFUNC_POOL_CHECKS", "1", 1);
                  return test::make_pool<Frame>(20).back_end() == before ? 42 : 1;
              }).status,
              42);
}

TEST(PoolChecks, AutomaticMeansOffInOptimisedBuilds) {
    if (detail::is_debug_build || std::getenv("DYNFUNC_POOL_CHECKS") != nullptr) GTEST_SKIP() << "they are on here";
    const auto pool = ObjectPool<Frame>::create({.capacity = 20});
    EXPECT_EQ(pool->back_end(), test::make_pool<Frame>(20).back_end());
}

}  // namespace
}  // namespace dynfunc
