// SPDX-License-Identifier: MIT
// The registers that register_state_arm64.S gives a function and finds after it, and what is compared of them.
#pragma once

#include <gtest/gtest.h>
#include <dynfunc/probe.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>

namespace dynfunc::test {

inline constexpr int gprs = 31, link_register = 30;
inline constexpr std::size_t vector_registers = 32;

struct State {
    std::uint64_t gpr[gprs], nzcv, fpcr, fpsr;
    std::byte q[vector_registers][16];
};
static_assert(offsetof(State, nzcv) == 248 && offsetof(State, q) == 272);

}  // namespace dynfunc::test

extern "C" {
inline dynfunc::test::State state_in, state_out;
inline void* state_stack;
inline const void* state_target;
void run_with_state();
void quiet_whole();
extern const char quiet_middle[];
}

namespace dynfunc::test {

inline void run_state() { run_with_state(); }

// What a handler may change, is changed.
inline void spoil() {
    asm volatile(
        "fmov d0, #1.0\n dup v1.2d, v0.d[0]\n mov v16.16b, v1.16b\n mov v17.16b, v1.16b\n mov v31.16b, v1.16b\n"
        "movi v8.16b, #3\n cmp x0, x0\n msr fpsr, xzr\n msr fpcr, xzr\n"
        "mov x9, #1\n mov x10, #2\n mov x11, #3\n mov x12, #4\n mov x13, #5\n mov x14, #6\n mov x15, #7\n mov x16, #8\n"
        "mov x17, #9" ::
            : "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "v0", "v1", "v8", "v16", "v17", "v31", "cc",
              "memory");
    errno = 4711;
}
inline void spoil_everything() { spoil(); }
// By handlers that promise to leave vector registers alone.
[[gnu::target("general-regs-only")]] inline void spoil_without_vectors() {
    asm volatile(
        "cmp x0, x0\n mov x9, #1\n mov x10, #2\n mov x11, #3\n mov x12, #4\n mov x13, #5\n mov x14, #6\n mov x15, #7\n"
        "mov x16, #8\n mov x17, #9\n mov x7, #10\n mov x8, #11" ::
            : "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "cc", "memory");
}

// Vectors of 32 bytes are returned in memory.
inline bool has_wide() { return true; }

struct QuietFunction {
    const char* name;
    void (*function)();
    AllowBreakpoint breakpoint;
};
inline constexpr QuietFunction quiet_functions[] = {{"whole", &quiet_whole, AllowBreakpoint::if_needed},
                                                    {"trap", &quiet_whole, AllowBreakpoint::always}};

inline std::uint64_t& gpr_of(Registers& registers, int i) { return registers.x[i]; }

// Of those the test gives, a call that is tracked keeps this one, and its handlers see it: x16 and x17 are free at the begin
// and at the end of every function.
constexpr bool is_kept(int i) { return i != link_register && i != 16 && i != 17; }

inline const std::byte* vector_of(const State& state, std::size_t i) { return state.q[i]; }
inline std::size_t known_vector_bytes() { return 16; }

inline void give_registers(Registers& registers, const State& given) {
    for (int i = 0; i < gprs; ++i)
        if (i != link_register) registers.x[i] = given.gpr[i];
    registers.nzcv = given.nzcv;
    for (std::size_t i = 0; i < vector_registers; ++i)
        std::memcpy(registers.vectors + i * registers.vector_bytes, given.q[i], sizeof given.q[i]);
}
// FPCR and FPSR are not the handler's.
inline void keep_control(State& given, const State& state) {
    given.fpcr = state.fpcr;
    given.fpsr = state.fpsr;
}

inline void forget_what_calls_change(const State& before, State& after, const char*) {
    for (const int i : {16, 17}) after.gpr[i] = before.gpr[i];
}

class RandomState {
public:
    void fill(State& state, bool = false) {
        for (auto& value : state.gpr) value = random_();
        for (auto& each : state.q)
            for (std::size_t i = 0; i < sizeof each; i += 8) {
                const std::uint64_t value = random_();
                std::memcpy(each + i, &value, sizeof value);
            }
        state.nzcv = random_() & 0xf000'0000;
        state.fpcr = 0x0040'0000;  // rounds up
        state.fpsr = random_() & 0x1f;
    }

private:
    std::mt19937_64 random_{20261122};
};

inline void expect_same(const State& before, const State& after, const char* what) {
    for (int i = 0; i < gprs; ++i)
        EXPECT_TRUE(i == link_register || before.gpr[i] == after.gpr[i])
            << what << ": x" << i << std::hex << " " << before.gpr[i] << " " << after.gpr[i];
    for (std::size_t i = 0; i < vector_registers; ++i)
        EXPECT_EQ(std::memcmp(before.q[i], after.q[i], sizeof before.q[i]), 0) << what << ": q" << i;
    EXPECT_EQ(before.nzcv, after.nzcv) << what;
    EXPECT_EQ(before.fpcr, after.fpcr) << what;
    EXPECT_EQ(before.fpsr, after.fpsr) << what;
}

}  // namespace dynfunc::test
