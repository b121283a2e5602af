// SPDX-License-Identifier: MIT
// Threads call, in hundreds of places, while others retarget, singly and in batches, and timer signals interrupt them all; each
// call must reach a target that was published, and a call that begins after a retarget returned must reach that target or a
// later one.
//
// DYNFUNC_TORTURE_SECONDS says for how long (default 10).
#include <gtest/gtest.h>
#include <pthread.h>
#include <dynfunc/call_sites.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include <array>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "call_site_samples.hpp"
#include "near_copies.hpp"
#include "torture.hpp"

namespace torture {
int start(int x) { return x * 16; }
// One writer each, so that what a later call must reach is known.
DYNFUNC(single0, int(int), &start);
DYNFUNC(single1, int(int), &start);
// Any number of writers, and batches.
DYNFUNC(shared0, int(int), &start);
DYNFUNC(shared1, int(int), &start);
DYNFUNC(shared2, int(int), &start);
DYNFUNC(shared3, int(int), &start);
}  // namespace torture

namespace dynfunc {
namespace {

using namespace torture;

// The i-th retarget of a function leads to target i % copies. `begun` is written before the i-th call of retarget(), `done`
// after.
struct Sequence {
    std::atomic<long> begun{0}, done{0};

    // Whether a call that was made between reading `done` as `first` and `begun` as `last` may have reached `target`.
    static bool allows(long first, long last, int target) {
        constexpr auto copies = static_cast<long>(test::copies);
        return last - first >= copies - 1 || (target - first % copies + copies) % copies <= last - first;
    }
};

std::array<Sequence, 2> sequences;
std::atomic<bool> stop{false};
std::atomic<long> calls{0}, transitions{0}, handler_calls{0}, retargets{0}, batches{0};
std::atomic<long> wrong_result{0}, stale_call{0}, refused{0};

// Every call comes from another place.
int call_single(std::size_t which, std::size_t site, int x) {
    return (which == 0 ? test::call_sites_of<single0> : test::call_sites_of<single1>)[site % test::site_samples](x);
}

void check_single(std::size_t which, int x, int& previous) {
    const auto site = static_cast<std::size_t>(x);
    const long first = sequences[which].done.load(std::memory_order_acquire);
    const int result = call_single(which, site, x);
    const long last = sequences[which].begun.load(std::memory_order_acquire);
    const int target = result - 16 * x;
    if (target < 0 || target >= static_cast<int>(test::copies))
        ++wrong_result;
    else if (!Sequence::allows(first, last, target))
        ++stale_call;
    if (target != previous) transitions.fetch_add(1, std::memory_order_relaxed);
    previous = target;
}

void check_shared(int x) {
    for (const int result : {shared0(x), shared1(x), shared2(x), shared3(x)})
        if (result < 16 * x || result >= 16 * x + static_cast<int>(test::copies)) ++wrong_result;
}

void call_until_stopped() {
    long count = 0;
    std::array<int, 2> previous{};
    for (int x = 0; !stop.load(std::memory_order_relaxed); x = (x + 1) & 0xffff) {
        check_single(0, x, previous[0]);
        check_single(1, x, previous[1]);
        check_shared(x);
        count += 6;
    }
    calls += count;
}

void in_handler(int) {
    if (stop.load(std::memory_order_relaxed)) return;
    int previous = 0;
    check_single(0, 3, previous);
    check_shared(5);
    handler_calls.fetch_add(1, std::memory_order_relaxed);
}

void expect(const Result<void>& done) {
    if (!done && refused.fetch_add(1) == 0) std::fprintf(stderr, "refused: %s\n", done.error().message().c_str());
}

template <class F>
void retarget_in_sequence(F& function, Sequence& sequence, const test::NearCopies& targets) {
    for (long i = 1; !stop.load(std::memory_order_relaxed); ++i) {
        sequence.begun.store(i, std::memory_order_release);
        expect(function.retarget(targets[static_cast<std::size_t>(i)]));
        sequence.done.store(i, std::memory_order_release);
        retargets.fetch_add(1, std::memory_order_relaxed);
    }
}

void retarget_in_batches(const test::NearCopies& targets) {
    for (std::size_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
        expect(retarget_all(
            {shared0.to(targets[i]), shared1.to(targets[i + 3]), shared2.to(targets[i + 5]), shared3.to(targets[i + 6])}));
        expect(shared1.retarget(targets[i + 1]));
        batches.fetch_add(1, std::memory_order_relaxed);
    }
}

TEST(FunctionTorture, EveryCallReachesAPublishedTargetAndNoLaterCallAnOlderOne) {
    const auto around = find_function("torture::single0");
    ASSERT_TRUE(around);
    const test::NearCopies targets(around->trampolines.empty() ? Address::of(&start) : around->trampolines[0].code);
    expect(single0.retarget(targets[0]));
    expect(single1.retarget(targets[0]));
    expect(retarget_all({shared0.to(targets[0]), shared1.to(targets[0]), shared2.to(targets[0]), shared3.to(targets[0])}));
    ASSERT_EQ(find_function("torture::single0")->form, capabilities().form) << "the targets are out of reach";
    const auto sites = find_function("torture::single0")->call_sites;
    if (const auto patching = call_site_patching(); *patching.reason == '\0' && patching.when != CallSites::never) {
        ASSERT_GE(sites.found, test::site_samples);
        ASSERT_GT(sites.patched, sites.found / 2);
    }

    {
        const test::TimerSignals signals(in_handler);
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back(call_until_stopped);
        threads.emplace_back([&] { retarget_in_sequence(single0, sequences[0], targets); });
        threads.emplace_back([&] { retarget_in_sequence(single1, sequences[1], targets); });
        threads.emplace_back([&] { retarget_in_batches(targets); });
        threads.emplace_back([&] { retarget_in_batches(targets); });
        test::for_the_torture([] { EXPECT_EQ(test::writable_code(), ""); });
        stop = true;
        for (auto& thread : threads) thread.join();
    }
    std::printf(
        "%zu call sites of each function, %zu of them patched; %ld calls, %ld in handlers, %ld retargets, %ld batches, %ld "
        "changes of target seen by callers\n",
        sites.found, sites.patched, calls.load(), handler_calls.load(), retargets.load(), batches.load(), transitions.load());
    EXPECT_EQ(wrong_result, 0);
    EXPECT_EQ(stale_call, 0);
    EXPECT_EQ(refused, 0);
    EXPECT_GT(handler_calls, 0);
    EXPECT_GT(transitions, 0) << "nobody called while targets changed: the run proves nothing";

    // The targets are about to go.
    EXPECT_TRUE(retarget_all({single0.to(&start), single1.to(&start), shared0.to(&start), shared1.to(&start),
                              shared2.to(&start), shared3.to(&start)}));
}

TEST(FunctionTorture, ControlACallThatSkipsATargetIsNoticed) {
    // begun = done = 9: only target 9 % 8 is right.
    EXPECT_TRUE(Sequence::allows(9, 9, 1));
    EXPECT_FALSE(Sequence::allows(9, 9, 0));
    EXPECT_FALSE(Sequence::allows(9, 9, 2));
    EXPECT_TRUE(Sequence::allows(9, 10, 2));
    EXPECT_FALSE(Sequence::allows(9, 10, 0));
}

}  // namespace
}  // namespace dynfunc
