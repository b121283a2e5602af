// SPDX-License-Identifier: MIT
// Every register of arm64 goes through a hit as it was, and handlers see and change all of them; stacks are walked, exceptions
// pass.
#include <dynfunc/probe.hpp>
#include <dynfunc/return_probe.hpp>

#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>

#include "address_space.hpp"
#include "surroundings.hpp"

namespace {

struct RegisterState {
    std::uint64_t x[31], nzcv, fpcr, fpsr;
    std::uint64_t q[32][2];
};
static_assert(offsetof(RegisterState, nzcv) == 248 && offsetof(RegisterState, q) == 272);

}  // namespace

extern "C" {
void through_probe(const RegisterState* before, RegisterState* after);
void probed_leaf();
extern const char probed_inside[];
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

// What ruins every register that a call may change, and the flags.
[[gnu::noinline]] void ruin() {
    asm volatile(
        "fmov d0, #1.0\n dup v1.2d, v0.d[0]\n mov v16.16b, v1.16b\n mov v17.16b, v1.16b\n mov v31.16b, v1.16b\n"
        "movi v8.16b, #3\n cmp x0, x0\n msr fpsr, xzr\n"
        "mov x9, #1\n mov x10, #2\n mov x11, #3\n mov x12, #4\n mov x13, #5\n mov x14, #6\n mov x15, #7\n mov x16, #8\n mov "
        "x17, #9" ::
            : "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "v0", "v1", "v8", "v16", "v17", "v31", "cc",
              "memory");
}
[[gnu::noinline]] void ruin_general() {
    asm volatile(
        "cmp x0, x0\n mov x9, #1\n mov x10, #2\n mov x11, #3\n mov x12, #4\n mov x13, #5\n mov x14, #6\n mov x15, #7\n mov "
        "x16, #8\n"
        "mov x17, #9\n mov x7, #10\n mov x8, #11" ::
            : "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "cc", "memory");
}

RegisterState random_state() {
    static std::mt19937_64 random(7);
    RegisterState state;
    for (auto& x : state.x) x = random();
    for (auto& q : state.q)
        for (auto& half : q) half = random();
    state.nzcv = random() & 0xf000'0000;
    state.fpcr = 0x0040'0000;  // rounds up
    state.fpsr = 0x1f;
    return state;
}

void expect_same(const RegisterState& before, const RegisterState& after) {
    for (int i = 0; i < 30; ++i) EXPECT_EQ(before.x[i], after.x[i]) << "x" << i;
    for (int i = 0; i < 32; ++i)
        for (int half = 0; half < 2; ++half) EXPECT_EQ(before.q[i][half], after.q[i][half]) << "q" << i << ", half " << half;
    EXPECT_EQ(before.nzcv, after.nzcv);
    EXPECT_EQ(before.fpcr, after.fpcr);
    EXPECT_EQ(before.fpsr, after.fpsr);
}

class Arm64Probes : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        const auto probe = Probe::attach(&probed_leaf, {.on_hit = [](ProbeHit&) { return AfterHit::keep; }});
        if (probe) return;
        ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
        GTEST_SKIP() << "this process cannot patch code";
    }
};

constinit RegisterState seen{};
constinit std::uint64_t seen_pc = 0;
constinit int hits = 0;

void copy_registers(const Registers& registers) {
    std::memcpy(seen.x, registers.x, sizeof seen.x);
    seen.nzcv = registers.nzcv;
    seen_pc = registers.pc;
    ++hits;
}

TEST_F(Arm64Probes, EveryRegisterIsSeenAndKept) {
    for (const void* at : {reinterpret_cast<const void*>(&probed_leaf), static_cast<const void*>(probed_inside)}) {
        for (const AllowBreakpoint breakpoint : {AllowBreakpoint::never, AllowBreakpoint::always}) {
            for (const Needs needs : {Needs::registers, Needs::vectors}) {
                const auto handler = needs == Needs::vectors ? +[](ProbeHit& hit) {
                    copy_registers(hit.registers);
                    std::memcpy(seen.q, hit.registers.vectors, sizeof seen.q);
                    ruin();
                    return AfterHit::keep;
                } : +[](ProbeHit& hit) {
                    for (int i = 0; i < 31; ++i) const_cast<volatile std::uint64_t&>(seen.x[i]) = hit.registers.x[i];
                    seen.nzcv = hit.registers.nzcv;
                    seen_pc = hit.registers.pc;
                    ++hits;
                    ruin_general();
                    return AfterHit::keep;
                };
                const auto probe =
                    Probe::attach(Address::of(at), {.on_hit = handler, .needs = needs, .breakpoint = breakpoint});
                ASSERT_TRUE(probe) << probe.error().message();
                EXPECT_EQ(probe->info().site_class,
                          breakpoint == AllowBreakpoint::never ? SiteClass::whole : SiteClass::breakpoint);
                for (int i = 0; i < 8; ++i) {
                    RegisterState before = random_state(), after{};
                    const int hits_before = hits;
                    through_probe(&before, &after);
                    EXPECT_EQ(hits, hits_before + 1);
                    EXPECT_EQ(seen_pc, Address::of(at).value);
                    expect_same(before, after);
                    EXPECT_EQ(seen.x[30], after.x[30]);
                    after.x[30] = before.x[30];
                    if (needs == Needs::registers) std::memcpy(seen.q, before.q, sizeof seen.q);
                    seen.fpcr = before.fpcr;
                    seen.fpsr = before.fpsr;
                    expect_same(before, seen);
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
