// SPDX-License-Identifier: MIT
// Parent and child after fork() and after a raw clone: neither's retargets reach the other, while threads of the parent go on.
#include <gtest/gtest.h>
#include <poll.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/tracepoint.hpp>

#include <array>
#include <atomic>
#include <thread>

#include "address_space.hpp"
#include "child.hpp"
#include "patterns.hpp"
#include "registry.hpp"
#include "surroundings.hpp"

namespace forked {
int one(int) { return 1; }
int two(int) { return 2; }
int three(int) { return 3; }
DYNFUNC(function, int(int), &one);
DYNFUNC(beside, int(int), &one);
DYNFUNC_STATIC_KEY_FALSE(key);
DYNFUNC_TRACEPOINT(event, void(int value));
}  // namespace forked

namespace dynfunc {
namespace {

using namespace forked;

pid_t by_fork(int (*body)()) { return test::start_child(body); }
pid_t by_raw_clone(int (*body)()) { return test::start_raw_child(body); }

class Fork : public testing::TestWithParam<pid_t (*)(int (*)())> {
protected:
    void SetUp() override {
        if (test::thread_sanitizer && GetParam() == by_raw_clone) GTEST_SKIP() << "the sanitizer takes the child for a thread";
        ASSERT_EQ(pipe(to_child_.data()), 0);
        ASSERT_EQ(pipe(to_parent_.data()), 0);
    }
    void TearDown() override {
        if (IsSkipped()) return;
        for (int end : {to_child_[0], to_child_[1], to_parent_[0], to_parent_[1]}) close(end);
        ASSERT_TRUE(function.retarget(&one));
    }
    static void tell(const std::array<int, 2>& pipe) { EXPECT_EQ(write(pipe[1], "", 1), 1); }
    static void hear(const std::array<int, 2>& pipe) {
        pollfd wait{pipe[0], POLLIN, 0};
        char token;
        ASSERT_EQ(poll(&wait, 1, 20'000), 1) << "the other process died";
        EXPECT_EQ(read(pipe[0], &token, 1), 1);
    }
    static constexpr const char* limit =
        "the documented limit of the memory-file writer: a raw clone shares its pages until the child's first update";
    static bool pages_stay_shared() { return GetParam() == by_raw_clone && capabilities().writer == TextWriter::memory_file; }
    static inline std::array<int, 2> to_child_, to_parent_;
};

TEST_P(Fork, TheChildsRetargetDoesNotReachTheParent) {
    const pid_t child = GetParam()([] {
        if (!function.retarget(&two)) return 1;
        tell(to_parent_);
        hear(to_child_);
        return function(0) == 2 ? 0 : 2;
    });
    hear(to_parent_);
    EXPECT_EQ(function(0), 1);
    EXPECT_EQ(function.target(), &one);
    tell(to_child_);
    EXPECT_EQ(test::wait_for(child).status, 0);
}

TEST_P(Fork, TheParentsRetargetDoesNotReachTheChild) {
    if (pages_stay_shared()) GTEST_SKIP() << limit;
    const pid_t child = GetParam()([] {
        tell(to_parent_);
        hear(to_child_);
        return function(0) == 1 && function.target() == &one ? 0 : 1;
    });
    hear(to_parent_);
    ASSERT_TRUE(function.retarget(&two));
    tell(to_child_);
    EXPECT_EQ(test::wait_for(child).status, 0);
}

TEST_P(Fork, BothGoOnRetargeting) {
    if (pages_stay_shared()) GTEST_SKIP() << limit;
    ASSERT_TRUE(function.retarget(&three));
    const pid_t child = GetParam()([] {
        if (function(0) != 3) return 1;
        for (int i = 0; i < 200; ++i) {
            if (!retarget_all({function.to(i % 2 == 0 ? &one : &two), beside.to(&three)})) return 2;
            if (function(0) != (i % 2 == 0 ? 1 : 2) || beside(0) != 3) return 3;
        }
        return test::writable_code().empty() ? 0 : 4;
    });
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(function.retarget(i % 2 == 0 ? &three : &one));
        ASSERT_EQ(function(0), i % 2 == 0 ? 3 : 1);
        ASSERT_EQ(beside(0), 1);
    }
    EXPECT_EQ(test::wait_for(child).status, 0);
}

TEST_P(Fork, GrandchildrenAreProcessesOfTheirOwn) {
    static pid_t (*start)(int (*)());
    start = GetParam();
    const pid_t child = start([] {
        if (!function.retarget(&two)) return 1;
        const pid_t grandchild = start([] {
            if (function(0) != 2) return 1;
            return function.retarget(&three) && function(0) == 3 ? 0 : 2;
        });
        if (test::wait_for(grandchild).status != 0) return 2;
        return function(0) == 2 ? 0 : 3;
    });
    EXPECT_EQ(test::wait_for(child).status, 0);
    EXPECT_EQ(function(0), 1);
}

int heard = 0;
void hear_event(int value) { heard += value; }
int fire(int value) {
    heard = 0;
    DYNFUNC_TRACE(event, value);
    return heard;
}
bool is_on() { return static_branch_unlikely(key); }

TEST_P(Fork, KeysAndTracepointsAreEachProcesssOwn) {
    auto inherited = event.attach(&hear_event);
    static Subscription* in_child;
    in_child = &*inherited;
    const pid_t child = GetParam()([] {
        if (is_on() || fire(1) != 1) return 1;
        if (!key.enable() || !is_on()) return 2;
        auto beside = event.attach([](int value) { heard += value; }, {.priority = 1});
        if (!beside || fire(1) != 2) return 3;
        if (!in_child->detach() || fire(1) != 1) return 4;
        tell(to_parent_);
        hear(to_child_);
        return is_on() && fire(1) == 1 && beside->detach() && fire(1) == 0 ? 0 : 5;
    });
    hear(to_parent_);
    EXPECT_FALSE(is_on());
    EXPECT_EQ(fire(1), 1);
    const auto third = event.attach([](int value) { heard += value; });
    EXPECT_EQ(fire(1), 2);
    tell(to_child_);
    EXPECT_EQ(test::wait_for(child).status, 0);
    EXPECT_EQ(fire(1), 2);
}

// The child is made at any moment of the parent's updates, also while another thread holds the lock and has written one half.
TEST_P(Fork, WhileOtherThreadsRetarget) {
    if (test::emulated && GetParam() == by_raw_clone) GTEST_SKIP() << "the emulator's own locks stay held in the child";
    if (pages_stay_shared()) GTEST_SKIP() << limit;
    std::atomic<bool> stop{false};
    std::atomic<long> refused{0};
    std::jthread retargeter([&] {
        for (int i = 0; !stop; ++i) {
            if (!retarget_all({function.to(i % 2 == 0 ? &one : &two), beside.to(i % 2 == 0 ? &one : &two)})) ++refused;
            test::let_others_have_the_lock();
        }
    });
    for (int i = 0; i < test::rounds(100) && !HasFailure(); ++i) {
        const pid_t child = GetParam()([] {
            alarm(20);
            const int before = function(0);
            if (before != 1 && before != 2) return 1;
            if (!retarget_all({function.to(&three), beside.to(&two)})) return 2;
            return function(0) == 3 && beside(0) == 2 ? 0 : 3;
        });
        const test::Ended ended = test::wait_for(child);
        EXPECT_EQ(ended.status, 0) << "signal " << ended.signal << " in child " << i;
        const int result = function(0);
        EXPECT_TRUE(result == 1 || result == 2);
    }
    stop = true;
    retargeter.join();
    EXPECT_EQ(refused, 0);
    ASSERT_TRUE(beside.retarget(&one));
}

INSTANTIATE_TEST_SUITE_P(By, Fork, testing::Values(&by_fork, &by_raw_clone),
                         [](const auto& param) { return param.param == &by_fork ? "Fork" : "RawClone"; });

// A lock of a layer above that is listed while a fork is under way, and held.
namespace listed_late {

constinit std::atomic<bool> is_inside{false};
constinit RankedMutex early_lock{LockRank::probe_patterns}, late_lock{LockRank::return_probes};
constinit ForkPart early{early_lock, [](Copied) noexcept {}};
constinit bool was_whole = false;
constinit ForkPart late{late_lock,
                        [](Copied) noexcept { was_whole = !is_inside && late_lock.is_mine() && early_lock.is_mine(); }};

bool is_free(RankedMutex& lock) {
    if (!lock.try_lock()) return false;
    lock.unlock();
    return true;
}

}  // namespace listed_late

TEST(ForkPart, ThatIsListedDuringAForkIsNotCopiedHalfWay) {
    using namespace listed_late;
    { const AdoptedLock listed(early); }
    // Threads that have ended, and are not joined in the child, are a leak to a sanitizer there.
    std::atomic<bool> blocks{false}, goes_on{false}, is_forked{false};
    const auto outlive_fork = [&] {
        while (!is_forked) sched_yield();
    };
    // Keeps the fork in its handler; a lock of the late part is listed there, and held.
    std::thread other([&] {
        Patterns::instance().lock();
        blocks = true;
        while (!goes_on) sched_yield();
        Registry::instance().adopt(late);
        is_inside = true;
        std::atomic<bool> is_held{false};
        std::thread holder([&] {
            const AdoptedLock hold(late);
            is_held = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            is_inside = false;
        });
        while (!is_held) sched_yield();
        Patterns::instance().unlock();
        holder.join();
        outlive_fork();
    });
    while (!blocks) sched_yield();
    std::thread watcher([&] {
        while (is_free(early_lock)) sched_yield();
        goes_on = true;
        outlive_fork();
    });
    int before = -1, after = -1;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
    const pid_t child = fork();
    if (child == 0) _exit(was_whole && !late_lock.is_mine() && is_free(late_lock) && is_free(early_lock) ? 0 : 1);
    is_forked = true;
    pthread_setcancelstate(before, &after);
    EXPECT_EQ(after, PTHREAD_CANCEL_ENABLE) << "as it was before the fork";
    EXPECT_FALSE(is_inside);
    watcher.join();
    other.join();
    EXPECT_EQ(test::wait_for(child).status, 0);
    EXPECT_TRUE(is_free(late_lock));
}

}  // namespace
}  // namespace dynfunc
