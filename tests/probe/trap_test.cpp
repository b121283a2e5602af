// SPDX-License-Identifier: MIT
// Probes of class breakpoint in programs that have their own mind about SIGTRAP; and probes in children.
#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"
#include "guarded_page.hpp"
#include "surroundings.hpp"

extern "C" {
void returns_at_once();  // x86: one byte, and nothing behind it that is free; arm64: a landing pad
int walk_add(int, int);
}

namespace {

using SetMask = int (*)(int, const sigset_t*, sigset_t*);
std::atomic<int> own_set_mask_calls{0};

}  // namespace

// In front of libc's, as sanitizers and preloaded objects have theirs.
extern "C" int pthread_sigmask(int how, const sigset_t* next, sigset_t* before) noexcept {
    static constinit std::atomic<SetMask> behind{nullptr};
    if (behind == nullptr) behind = reinterpret_cast<SetMask>(dlsym(RTLD_NEXT, "pthread_sigmask"));
    ++own_set_mask_calls;
    return behind.load()(how, next, before);
}

namespace dynfunc {
namespace {

std::atomic<int> hits{0}, own_traps{0};
AfterHit count_hit(ProbeHit&) {
    ++hits;
    return AfterHit::keep;
}
void own_handler(int) { ++own_traps; }
void calls_what_is_probed(int) { returns_at_once(); }

// What libc does not see.
int set_mask_by_system_call(int how, int signal) {
    const std::uint64_t set = std::uint64_t{1} << (signal - 1);
    return static_cast<int>(syscall(SYS_rt_sigprocmask, how, &set, nullptr, sizeof set));
}

sigset_t everything() {
    sigset_t all;
    sigfillset(&all);
    return all;
}

class TrapTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        if (test::thread_sanitizer)
            GTEST_SKIP() << "the sanitizer sets handlers and masks past libc, and has a thread that blocks the signal";
        if (test::emulated) GTEST_SKIP() << test::blocked_by_emulator;
        if (const char* why = test::make_place_of_breakpoint(Address::of(&returns_at_once))) GTEST_SKIP() << why;
        auto probe = Probe::attach(&returns_at_once, {.on_hit = &count_hit});
        if (!probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
        probe_ = std::move(*probe);
        ASSERT_EQ(probe_.info().site_class, SiteClass::breakpoint);
        hits = own_traps = 0;
    }

    Probe probe_;
};

TEST_F(TrapTest, TheProgramsHandlerIsKeptAndCalledForItsOwnTraps) {
    struct sigaction own {
    }, before{}, now{};
    own.sa_handler = &own_handler;
    own.sa_flags = SA_RESTART;
    sigaddset(&own.sa_mask, SIGUSR1);
    ASSERT_EQ(sigaction(SIGTRAP, &own, &before), 0);
    EXPECT_EQ(before.sa_handler, SIG_DFL) << "as if ours were not there";
    ASSERT_EQ(sigaction(SIGTRAP, nullptr, &now), 0);
    EXPECT_EQ(now.sa_handler, &own_handler);
    EXPECT_EQ(now.sa_flags, SA_RESTART);
    EXPECT_EQ(sigismember(&now.sa_mask, SIGUSR1), 1);

    returns_at_once();
    EXPECT_EQ(hits, 1);
    EXPECT_EQ(own_traps, 0);
    raise(SIGTRAP);
    EXPECT_EQ(own_traps, 1);

    EXPECT_EQ(signal(SIGTRAP, SIG_IGN), &own_handler) << "another way there";
    raise(SIGTRAP);
    returns_at_once();
    EXPECT_EQ(hits, 2);
    EXPECT_EQ(own_traps, 1);
    ASSERT_EQ(sigaction(SIGTRAP, &before, nullptr), 0);
}

TEST_F(TrapTest, AHandlerForOnceIsCalledOnce) {
    const auto ended = test::in_child([] {
        struct sigaction once {};
        once.sa_handler = &own_handler;
        once.sa_flags = static_cast<int>(SA_RESETHAND);
        if (sigaction(SIGTRAP, &once, nullptr) != 0) return 1;
        raise(SIGTRAP);
        struct sigaction now {};
        if (own_traps != 1 || sigaction(SIGTRAP, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) return 2;
        returns_at_once();
        if (hits != 1) return 3;
        raise(SIGTRAP);
        return 4;
    });
    EXPECT_EQ(ended.signal, SIGTRAP) << "status " << ended.status;
}

TEST_F(TrapTest, MasksLeaveTheSignalOut) {
    const sigset_t all = everything();
    sigset_t before, now;
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &now), 0);
    EXPECT_EQ(sigismember(&now, SIGTRAP), 0);
    EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
    EXPECT_EQ(sigismember(&all, SIGTRAP), 1) << "the program's own set is not touched";
    returns_at_once();
    EXPECT_EQ(hits, 1);
    ASSERT_EQ(sigprocmask(SIG_BLOCK, &all, nullptr), 0);
    returns_at_once();
    EXPECT_EQ(hits, 2);
    EXPECT_EQ(pthread_sigmask(77, &all, nullptr), EINVAL) << "errors are libc's";
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);

    struct sigaction masking {
    }, former{};
    masking.sa_handler = &calls_what_is_probed;
    masking.sa_mask = all;
    ASSERT_EQ(sigaction(SIGUSR2, &masking, &former), 0);
    raise(SIGUSR2);
    EXPECT_EQ(hits, 3);
    ASSERT_EQ(sigaction(SIGUSR2, &former, &masking), 0);
    EXPECT_EQ(sigismember(&masking.sa_mask, SIGTRAP), 0);
    EXPECT_EQ(sigaction(SIGKILL, &masking, nullptr), -1);
    EXPECT_EQ(errno, EINVAL);
}

// What stands in front of libc is called by the program, and by nobody else on its way.
TEST_F(TrapTest, WhatStandsInFrontOfLibcIsCalledOnce) {
    const sigset_t all = everything();
    sigset_t before;
    own_set_mask_calls = 0;
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &all, &before), 0);
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
    EXPECT_EQ(own_set_mask_calls, 2);
    returns_at_once();
    EXPECT_EQ(hits, 1);
}

// The control: without the library's probes on libc the process dies.
TEST_F(TrapTest, WhatLibcDoesNotSeeEndsTheProcess) {
    const auto ended = test::in_child([] {
        if (set_mask_by_system_call(SIG_BLOCK, SIGTRAP) != 0) return 1;
        returns_at_once();
        return 2;
    });
    EXPECT_EQ(ended.signal, SIGTRAP);
}

TEST_F(TrapTest, AreRefusedWhereAThreadBlocksTheSignal) {
    probe_.detach();
    std::atomic<bool> is_blocked{false}, over{false};
    std::thread blocking([&] {
        set_mask_by_system_call(SIG_BLOCK, SIGTRAP);
        is_blocked = true;
        while (!over) std::this_thread::yield();
    });
    while (!is_blocked) std::this_thread::yield();
    // (A place that was one before is used again: another one.)
    const Address inside = Address::of(&walk_add);
    const auto refused = Probe::attach(&returns_at_once, {.on_hit = &count_hit});
    const auto elsewhere = Probe::attach(inside, {.on_hit = &count_hit});
    const auto forced = Probe::attach(&returns_at_once, {.on_hit = &count_hit, .breakpoint = AllowBreakpoint::always});
    over = true;
    blocking.join();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::signal_blocked);
    EXPECT_EQ(refused.error().address, Address::of(&returns_at_once));
    EXPECT_TRUE(elsewhere) << "a jump fits there";
    EXPECT_TRUE(forced);
    EXPECT_TRUE(Probe::attach(&returns_at_once, {.on_hit = &count_hit})) << "nobody blocks it any more";
}

TEST_F(TrapTest, AChildDropsItsProbesIfAsked) {
    auto jump = Probe::attach(&walk_add, {.on_hit = &count_hit});
    ASSERT_TRUE(jump);
    const std::byte armed = *Address::of(&walk_add).as<const std::byte*>();
    set_probes_in_children(InChildren::drop);
    const auto ended = test::in_child([&] {
        const std::byte linked = *Address::of(&walk_add).as<const std::byte*>();
        returns_at_once();
        if (walk_add(1, 2) != 3 || hits != 0 || linked == armed) return 1;
        jump->detach();
        auto again = Probe::attach(&walk_add, {.on_hit = &count_hit});
        if (!again || walk_add(1, 2) != 3 || hits != 1 || again->hits() != 1) return 2;
        probe_.detach();
        auto trap = Probe::attach(&returns_at_once, {.on_hit = &count_hit});
        returns_at_once();
        return trap && hits == 2 ? 0 : 3;
    });
    set_probes_in_children(InChildren::keep);
    EXPECT_EQ(ended.status, 0) << "signal " << ended.signal;
    returns_at_once();
    static_cast<void>(walk_add(1, 2));
    EXPECT_EQ(hits, 2) << "the parent has them";
    const auto kept = test::in_child([&] { return walk_add(1, 2) == 3 && hits == 3 ? 0 : 1; });
    EXPECT_EQ(kept.status, 0);
}

// Another thread attaches and detaches without a pause when the process is copied.
TEST_F(TrapTest, ARawCloneInTheMiddleOfAnAttachKeepsHits) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer's locks are copied as they are";
    std::atomic<bool> over{false};
    std::thread attaching([&] {
        while (!over) {
            auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit});
            if (!probe) std::abort();
        }
    });
    int half_way = 0, whole = 0;
    for (int i = 0; i < 20'000 && (half_way < 3 || whole < 3); ++i) {
        const auto ended = test::wait_for(test::start_raw_child([&] {
            alarm(30);
            const int before = hits;
            returns_at_once();
            if (hits != before + 1 || walk_add(1, 2) != 3) return 1;
            auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit});
            if (!probe) return probe.error().code == Errc::copied_half_way ? 10 : 2;
            if (walk_add(1, 2) != 3 || probe->hits() != 1) return 3;
            probe->detach();
            return 11;
        }));
        ASSERT_TRUE(ended.status == 10 || ended.status == 11) << ended.status << ", signal " << ended.signal;
        ++(ended.status == 10 ? half_way : whole);
    }
    over = true;
    attaching.join();
    EXPECT_GE(half_way, 3);
    EXPECT_GE(whole, 3);
}

}  // namespace
}  // namespace dynfunc
