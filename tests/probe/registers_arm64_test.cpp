// SPDX-License-Identifier: MIT
// Every register of arm64 goes through a hit as it was, and handlers see and change all of them; stacks are walked, exceptions
// pass.
#include <dynfunc/probe.hpp>
#include <dynfunc/return_probe.hpp>

#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "address_space.hpp"
#include "register_state_arm64.hpp"
#include "surroundings.hpp"

extern "C" {
[[gnu::noinline]] int probed_thrower(int x) {
    if (x > 3) throw std::runtime_error("more than three");
    return x;
}
[[gnu::noinline]] int probed_integer(int a, int b) {
    asm volatile("");
    return a * b;
}
}

namespace dynfunc {
namespace {

using namespace test;  // register_state_arm64.hpp

class Arm64Probes : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        const auto probe = Probe::attach(&quiet_whole, {.on_hit = [](ProbeHit&) { return AfterHit::keep; }});
        if (probe) return;
        ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
        GTEST_SKIP() << "this process cannot patch code";
    }
};

struct Seen {
    Registers registers{};
    State state{};  // its vector registers
    int hits = 0;
};

AfterHit look(ProbeHit& hit) {
    Seen& seen = *static_cast<Seen*>(hit.data);
    seen.registers = hit.registers;
    std::memcpy(seen.state.q, hit.registers.vectors, sizeof seen.state.q);
    ++seen.hits;
    spoil();
    return AfterHit::keep;
}
[[gnu::target("general-regs-only")]] AfterHit look_without_vectors(ProbeHit& hit) {
    Seen& seen = *static_cast<Seen*>(hit.data);
    for (std::size_t i = 0; i < sizeof(Registers) / 8; ++i)
        reinterpret_cast<std::uint64_t*>(&seen.registers)[i] = reinterpret_cast<const std::uint64_t*>(&hit.registers)[i];
    ++seen.hits;
    spoil_without_vectors();
    return AfterHit::keep;
}

TEST_F(Arm64Probes, EveryRegisterIsSeenAndKept) {
    RandomState random;
    for (const void* at : {reinterpret_cast<const void*>(&quiet_whole), static_cast<const void*>(quiet_middle)}) {
        for (const AllowBreakpoint breakpoint : {AllowBreakpoint::never, AllowBreakpoint::always}) {
            for (const Needs needs : {Needs::registers, Needs::vectors}) {
                Seen seen;
                const auto probe =
                    Probe::attach(Address::of(at), {.on_hit = needs == Needs::vectors ? &look : &look_without_vectors,
                                                    .data = &seen,
                                                    .needs = needs,
                                                    .breakpoint = breakpoint});
                ASSERT_TRUE(probe) << probe.error().message();
                EXPECT_EQ(probe->info().site_class,
                          breakpoint == AllowBreakpoint::never ? SiteClass::whole : SiteClass::breakpoint);
                for (int i = 1; i <= 8; ++i) {
                    random.fill(state_in);
                    state_target = reinterpret_cast<const void*>(&quiet_whole);
                    run_state();
                    test::expect_same(state_in, state_out, "kept");
                    EXPECT_EQ(seen.hits, i);
                    EXPECT_EQ(seen.registers.pc, Address::of(at).value);
                    EXPECT_EQ(seen.registers.sp, reinterpret_cast<std::uintptr_t>(state_stack));
                    const std::uint64_t back = seen.registers.x[link_register], begin = Address::of(&run_with_state).value;
                    EXPECT_TRUE(begin < back && back < begin + 1000);
                    std::memcpy(seen.state.gpr, seen.registers.x, sizeof seen.state.gpr);
                    seen.state.nzcv = seen.registers.nzcv;
                    keep_control(seen.state, state_in);
                    if (needs == Needs::registers) std::memcpy(seen.state.q, state_in.q, sizeof seen.state.q);
                    test::expect_same(state_in, seen.state, "seen");
                }
            }
        }
    }
}

TEST_F(Arm64Probes, AHandlerChangesArgumentsAndWhereToGoOn) {
    const auto probe = Probe::attach(&probed_integer, {.on_hit = [](ProbeHit& hit) {
        if (hit.registers.integer(0) == 7)
            hit.registers.return_now(99);
        else if (hit.registers.integer(0) == 8)
            hit.registers.integer(1) = 5;
        else if (hit.registers.integer(0) == 9)
            hit.registers.instruction_pointer() = Address::of(&probed_thrower).value;
        return AfterHit::keep;
    }});
    ASSERT_TRUE(probe) << probe.error().message();
    int (*volatile call)(int, int) = &probed_integer;
    EXPECT_EQ(call(6, 2), 12);
    EXPECT_EQ(call(7, 2), 99);
    EXPECT_EQ(call(8, 2), 40);
    EXPECT_THROW(call(9, 2), std::runtime_error);
    EXPECT_EQ(probe->hits(), 4U);
}

TEST_F(Arm64Probes, ExceptionsPassAndStacksAreWalked) {
    static constinit int frames = 0, frames_of_caller = 0;
    static constinit bool has_function = false;
    const auto probe = Probe::attach(&probed_thrower, {.on_hit = [](ProbeHit& hit) {
        std::array<void*, 64> found;
        frames = backtrace(found.data(), found.size());
        has_function = false;
        for (int i = 0; i < frames; ++i) has_function = has_function || Address::of(found[static_cast<unsigned>(i)]) == hit.at;
        return AfterHit::keep;
    }});
    ASSERT_TRUE(probe) << probe.error().message();
    int (*volatile call)(int) = &probed_thrower;
    std::array<void*, 64> here;
    frames_of_caller = backtrace(here.data(), here.size());
    EXPECT_EQ(call(2), 2);
    EXPECT_TRUE(has_function);
    EXPECT_GT(frames, frames_of_caller);
    for (int i = 0; i < 100; ++i) EXPECT_THROW(call(4), std::runtime_error);
    EXPECT_EQ(probe->hits(), 101U);
}

}  // namespace
}  // namespace dynfunc
