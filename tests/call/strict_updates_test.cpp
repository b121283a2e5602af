// SPDX-License-Identifier: MIT
// Updates in steps, while other threads run what changes.
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/strict_updates.hpp>
#include <dynfunc/tracepoint.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "arch.hpp"
#include "child.hpp"
#include "surroundings.hpp"

namespace strict {
long twice(long value) { return 2 * value; }
long thrice(long value) { return 3 * value; }
DYNFUNC(scale, long(long), &twice);
DYNFUNC_STATIC_KEY_FALSE(enabled);
DYNFUNC_TRACEPOINT(seen, void(long value));

// Compilers like to make a conditional jump of this call.
[[gnu::noinline]] long scale_odd(long value) { return (value & 1) != 0 ? scale(value) : value; }
}  // namespace strict

namespace dynfunc {
namespace {

using namespace strict;

bool changes_text() { return capabilities().form == Form::patched && arch::steps_over_sites(); }

class StrictUpdatesTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(require_strict_updates()); }
};

// Threads that do the same until it is over; each says how often something was wrong.
class Callers {
public:
    template <class Body>
    explicit Callers(Body body) {
        for (int i = 0; i < 2; ++i)
            threads_.emplace_back([this, body] {
                while (!over_) {
                    if (!body()) ++wrong_;
                    ++calls_;
                }
            });
        while (calls_ < 100) std::this_thread::yield();
    }
    // How often it was wrong.
    long end() {
        over_ = true;
        for (std::thread& thread : threads_) thread.join();
        return wrong_;
    }
    long calls() const { return calls_; }

private:
    std::atomic<bool> over_{false};
    std::atomic<long> wrong_{0}, calls_{0};
    std::vector<std::thread> threads_;
};

TEST_F(StrictUpdatesTest, AreSaidToBe) {
    EXPECT_EQ(updates_are_strict(), changes_text());
    EXPECT_EQ(capabilities().text().find("in strict updates") != std::string::npos, changes_text());
    EXPECT_TRUE(require_strict_updates()) << "once more";
}

TEST_F(StrictUpdatesTest, FunctionsChangeUnderCallers) {
    Callers callers([] {
        const long all = scale(7), odd = scale_odd(9), even = scale_odd(4);
        return (all == 14 || all == 21) && (odd == 18 || odd == 27) && even == 4;
    });
    for (int i = 0; i < test::rounds(2000, 100); ++i) {
        ASSERT_TRUE(scale.retarget(i % 2 == 0 ? &thrice : &twice));
        ASSERT_EQ(scale(5), i % 2 == 0 ? 15 : 10);
        ASSERT_EQ(scale_odd(5), i % 2 == 0 ? 15 : 10);
    }
    EXPECT_EQ(callers.end(), 0);
}

TEST_F(StrictUpdatesTest, KeysChangeUnderReaders) {
    std::atomic<long> taken{0};
    Callers callers([&taken] {
        if (static_branch_unlikely(enabled)) taken.fetch_add(1, std::memory_order_relaxed);
        return true;
    });
    for (int i = 0; i < test::rounds(1000, 100); ++i) {
        ASSERT_TRUE(enabled.enable());
        ASSERT_TRUE(static_branch_unlikely(enabled));
        ASSERT_TRUE(enabled.disable());
        ASSERT_FALSE(static_branch_unlikely(enabled));
    }
    EXPECT_EQ(callers.end(), 0);
}

TEST_F(StrictUpdatesTest, TracepointsChangeUnderWhoFiresThem) {
    Callers callers([] {
        DYNFUNC_TRACE(seen, 5);
        return true;
    });
    static std::atomic<long> first{0}, second{0};
    const int rounds = test::rounds(500, 100);
    for (int i = 0; i < rounds; ++i) {
        auto one = seen.attach(+[](long value) { first += value == 5 ? 1 : 1000; });
        ASSERT_TRUE(one);
        auto two = seen.attach(+[](long value) { second += value == 5 ? 1 : 1000; });
        ASSERT_TRUE(two);
        const long before = second;
        DYNFUNC_TRACE(seen, 5);
        ASSERT_GT(second, before);
    }
    EXPECT_EQ(callers.end(), 0);
    EXPECT_GE(first.load(), rounds);
}

// Who takes the signal between updates loses it to the next.
TEST_F(StrictUpdatesTest, TakeTheSignalAgain) {
    if (!changes_text()) GTEST_SKIP() << "no text is patched in this process";
    ASSERT_TRUE(scale.retarget(&twice));
    struct sigaction ours {
    }, other{};
    ASSERT_EQ(sigaction(SIGTRAP, nullptr, &ours), 0);
    other.sa_handler = SIG_DFL;
    ASSERT_EQ(sigaction(SIGTRAP, &other, nullptr), 0);
    ASSERT_TRUE(scale.retarget(&thrice));
    struct sigaction now {};
    ASSERT_EQ(sigaction(SIGTRAP, nullptr, &now), 0);
    EXPECT_EQ(now.sa_sigaction, ours.sa_sigaction);
    EXPECT_EQ(scale(5), 15);
}

// The control: that threads do trap. The system ends a process in which the signal of a breakpoint is blocked; with plain
// stores the same program ends well.
int calls_with_the_signal_blocked(bool strictly) {
    if (strictly && !require_strict_updates()) return 2;
    std::atomic<bool> over{false};
    std::thread caller([&over] {
        sigset_t trap;
        sigemptyset(&trap);
        sigaddset(&trap, SIGTRAP);
        pthread_sigmask(SIG_BLOCK, &trap, nullptr);
        while (!over) static_cast<void>(scale(3));
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(strictly ? 60 : 1);
    for (int i = 0; std::chrono::steady_clock::now() < end; ++i)
        if (!scale.retarget(i % 2 == 0 ? &thrice : &twice)) return 3;
    over = true;
    caller.join();
    return 0;
}

TEST(StrictUpdatesControl, ThreadsTrap) {
    if (!changes_text()) GTEST_SKIP() << "no text is patched in this process";
    EXPECT_EQ(test::in_child([] { return calls_with_the_signal_blocked(true); }).signal, SIGTRAP);
}

}  // namespace
}  // namespace dynfunc
