// SPDX-License-Identifier: MIT
// What is made at the first use is there in a child process, whenever it was made.
#include "first_use.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "child.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

TEST(FirstUse, IsMadeOnceByTheFirst) {
    static constinit MadeOnFirstUse<int> made;
    std::atomic<int> times{0};
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] { wrong += made.get([&] { return ++times, sched_yield(), 7; }) != 7; });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(times, 1);
    EXPECT_EQ(wrong, 0);
}

TEST(FirstUse, WhatThrowsIsAskedAgain) {
    static constinit MadeOnFirstUse<int> made;
    EXPECT_THROW(made.get([]() -> int { throw std::runtime_error("not yet"); }), std::runtime_error);
    EXPECT_EQ(made.get([] { return 3; }), 3);
}

TEST(FirstUse, OneMayNeedAnother) {
    static constinit MadeOnFirstUse<int> inner, outer;
    EXPECT_EQ(outer.get([] { return inner.get([] { return 2; }) + 1; }), 3);
}

// Another thread makes it while this one has a child, which may not wait for that thread.
template <class StartChild>
int made_in_child(MadeOnFirstUse<int>& made, StartChild&& start_child) {
    std::atomic<bool> is_inside{false}, goes_on{false};
    std::thread maker([&] {
        made.get([&] {
            is_inside = true;
            for (int i = 0; i < 200 && !goes_on; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return 7;
        });
        while (!goes_on) sched_yield();
    });
    while (!is_inside) sched_yield();
    const pid_t child = start_child([&made] {
        alarm(20);
        return made.get([] { return 8; });
    });
    goes_on = true;
    const test::Ended ended = test::wait_for(child);
    maker.join();
    return ended.status;
}

TEST(FirstUse, AForkWaitsUntilItIsMade) {
    static constinit MadeOnFirstUse<int> made;
    EXPECT_EQ(made_in_child(made, [](auto body) { return test::start_child(body); }), 7);
}

TEST(FirstUse, ARawCloneMakesItAnew) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer takes the child for a thread";
    static constinit MadeOnFirstUse<int> made;
    EXPECT_EQ(made_in_child(made, [](auto body) { return test::start_raw_child(body); }), 8);
}

TEST(FirstUse, WhoMakesIsNotCancelled) {
    static constinit MadeOnFirstUse<int> made;
    int during = -1, after = -1;
    std::thread([&] {
        made.get([&] {
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &during);
            return 1;
        });
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &after);
    }).join();
    EXPECT_EQ(during, PTHREAD_CANCEL_DISABLE);
    EXPECT_EQ(after, PTHREAD_CANCEL_ENABLE);
}

}  // namespace
}  // namespace dynfunc
