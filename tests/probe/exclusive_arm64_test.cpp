// SPDX-License-Identifier: MIT
// Between a load-exclusive and its store-exclusive no probe is put: its hit would take the monitor's mark away, each time, and
// the loop would never end.
#include <dynfunc/probe.hpp>

#include <gtest/gtest.h>

#include "address_space.hpp"
#include "surroundings.hpp"

extern "C" {
long exclusive_add(long* to, long n);
long exclusive_add_interrupted(long* to, long n, long attempts);
}

namespace dynfunc {
namespace {

int hits = 0;
AfterHit count_hit(ProbeHit&) {
    ++hits;
    return AfterHit::keep;
}

class ExclusiveTest : public testing::Test {
protected:
    void SetUp() override {
        hits = 0;
        if (const auto probe = Probe::attach(&exclusive_add_interrupted, {.on_hit = &count_hit}); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
};

TEST_F(ExclusiveTest, RefusedBetweenAcceptedBeforeAndBehind) {
    const Address function = Address::of(&exclusive_add);
    //                                nop   ldaxr  add    stlxr  cbnz  mov   ret
    constexpr bool is_between[] = {false, false, true, true, false, false, false};
    long value = 0;
    int expected = 0;
    for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always}) {
        if (test::emulated && breakpoint == AllowBreakpoint::always) break;  // a thread of the emulator's blocks every signal
        for (std::size_t i = 0; i < std::size(is_between); ++i) {
            const Address at = function + static_cast<std::ptrdiff_t>(4 * i);
            const auto probe = Probe::attach(at, {.on_hit = &count_hit, .breakpoint = breakpoint});
            ASSERT_EQ(probe.has_value(), !is_between[i]) << i;
            if (!probe) {
                EXPECT_EQ(probe.error().code, Errc::exclusive_access) << probe.error().message();
                EXPECT_EQ(probe.error().address, at);
            }
            value = exclusive_add(&value, 3);
            expected += 3;
            EXPECT_EQ(value, expected) << i;
            // A store that fails for another reason comes to the load again.
            EXPECT_GE(probe ? probe->hits() : 1u, 1u);
        }
    }
    EXPECT_GE(hits, 5);
}

// Why: with what a hit does in between, the store never succeeds.
TEST_F(ExclusiveTest, AnAccessInBetweenMakesTheStoreFailEachTime) {
    long value = 7;
    EXPECT_EQ(exclusive_add_interrupted(&value, 1, 10'000), 0);
    EXPECT_EQ(value, 7);
}

}  // namespace
}  // namespace dynfunc
