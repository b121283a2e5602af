// SPDX-License-Identifier: MIT
#include "lock.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>

namespace dynfunc {
namespace {

constinit RankedMutex low{LockRank::grace_period}, high{LockRank::text};

TEST(RankedMutex, AscendingRanksAreTaken) {
    const std::lock_guard first(low);
    const std::lock_guard second(high);
}

TEST(RankedMutexDeathTest, DescendingRanksAbort) {
    EXPECT_DEATH(
        {
            const std::lock_guard first(high);
            const std::lock_guard second(low);
        },
        "order of ranks");
}

TEST(RankedMutexDeathTest, TheSameRankTwiceAborts) {
    EXPECT_DEATH(
        {
            const std::lock_guard first(high);
            const std::lock_guard second(high);
        },
        "order of ranks");
}

TEST(RankedMutex, RanksAreCountedPerThread) {
    const std::lock_guard mine(high);
    std::thread([] { const std::lock_guard theirs(low); }).join();
}

TEST(RankedMutex, ExcludesOtherThreads) {
    long counter = 0;
    const auto add = [&] {
        for (int i = 0; i < 20000; ++i) {
            const std::lock_guard hold(high);
            ++counter;
        }
    };
    std::thread other(add);
    add();
    other.join();
    EXPECT_EQ(counter, 40000);
}

}  // namespace
}  // namespace dynfunc
