// SPDX-License-Identifier: MIT
// The registers that register_state_x86.S gives a function and finds after it, and what is compared of them.
#pragma once

#include <gtest/gtest.h>
#include <dynfunc/probe.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>

namespace dynfunc::test {

enum Gpr { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, gprs };

struct alignas(64) State {
    std::uint64_t gpr[gprs];
    std::uint64_t rflags;
    alignas(64) std::byte fx[512];
    std::byte ymm[16][32];
};
static_assert(offsetof(State, rflags) == 128 && offsetof(State, fx) == 192 && offsetof(State, ymm) == 704);

inline constexpr std::uint64_t status_flags = 0x8d5, direction_flag = 0x400;

}  // namespace dynfunc::test

extern "C" {
inline dynfunc::test::State state_in, state_out;
inline void* state_stack;
inline const void* state_target;
void run_with_state(bool with_ymm);
void spoil_registers(bool with_ymm);
void quiet_whole(), quiet_guarded(), quiet_punned();
extern const char quiet_middle[], quiet_red_zone[];
}

namespace dynfunc::test {

inline bool has_ymm() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx");
}

inline void run_state() { run_with_state(has_ymm()); }

// What a handler may change, is changed.
inline void spoil() {
    spoil_registers(has_ymm());
    volatile double inexact = 1.0;
    inexact = inexact / 3.0;
    const std::uint32_t other_rounding = 0x1f80 | 0x6000;
    asm volatile("ldmxcsr %0" : : "m"(other_rounding));
    errno = 4711;
}
// Where x87 registers do not hold what the test compares.
inline void spoil_everything() {
    spoil();
    volatile long double extended = 1.0L;
    extended = extended / 3.0L;
}
// By handlers that promise to leave vector registers alone.
[[gnu::target("general-regs-only")]] inline void spoil_without_vectors() {
    asm volatile("mov $7,%%eax; mov %%rax,%%rcx; mov %%rax,%%r8; mov %%rax,%%r11; cmp %%eax,%%eax"
                 :
                 :
                 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
}

// Whether there are registers in which returns_wide() returns.
inline bool has_wide() { return has_ymm(); }

struct QuietFunction {
    const char* name;
    void (*function)();
    AllowBreakpoint breakpoint;
};
inline constexpr QuietFunction quiet_functions[] = {{"whole", &quiet_whole, AllowBreakpoint::if_needed},
                                                    {"guarded", &quiet_guarded, AllowBreakpoint::if_needed},
                                                    {"trap", &quiet_guarded, AllowBreakpoint::always}};

inline std::uint64_t& gpr_of(Registers& registers, int i) {
    std::uint64_t* const in_order[] = {&registers.rax, &registers.rcx, &registers.rdx, &registers.rbx,
                                       &registers.rsp, &registers.rbp, &registers.rsi, &registers.rdi,
                                       &registers.r8,  &registers.r9,  &registers.r10, &registers.r11,
                                       &registers.r12, &registers.r13, &registers.r14, &registers.r15};
    return *in_order[i];
}

// Of those the test gives, a call that is tracked keeps this one, and its handlers see it.
constexpr bool is_kept(int i) { return i != rsp; }

inline constexpr std::size_t vector_registers = 16;
inline const std::byte* vector_of(const State& state, std::size_t i) { return state.ymm[i]; }
inline std::size_t known_vector_bytes() { return has_ymm() ? 32 : 16; }

inline void give_registers(Registers& registers, const State& given) {
    for (int i = 0; i < gprs; ++i)
        if (i != rsp) gpr_of(registers, i) = given.gpr[i];
    registers.rflags = given.rflags;
    for (std::size_t i = 0; i < vector_registers; ++i)
        std::memcpy(registers.vectors + i * registers.vector_bytes, given.ymm[i],
                    std::min<std::size_t>(registers.vector_bytes, 32));
}
// x87 and MXCSR are not the handler's.
inline void keep_control(State& given, const State& state) { std::memcpy(given.fx, state.fx, 160); }

// The flags are nobody's when a function has returned, but for the direction, which is clear; nor is what the last x87
// instruction was.
inline void forget_what_calls_change(const State& before, State& after, const char* what) {
    constexpr std::size_t last_instruction = 6, mxcsr = 24;
    EXPECT_EQ(after.rflags & direction_flag, 0u) << what;
    after.rflags = before.rflags;
    std::memcpy(after.fx + last_instruction, before.fx + last_instruction, mxcsr - last_instruction);
}

class RandomState {
public:
    void fill(State& state, bool any_direction) {
        for (auto& value : state.gpr) value = random_();
        state.rflags = (random_() & (status_flags | (any_direction ? direction_flag : 0))) | 0x202;
        // x87: three values on the stack, and another control word than the usual; MXCSR: another rounding mode, some flags.
        const long double values[] = {3.25L, -0.5L, 1e300L};
        asm volatile("fninit; fldt 0(%1); fldt 16(%1); fldt 32(%1); fxsave64 %0; fninit"
                     : "=m"(state.fx)
                     : "r"(values)
                     : "memory");
        const std::uint32_t mxcsr = 0x1f80 | (random_() & 0x6000) | (random_() & 0x3f);
        std::memcpy(state.fx + 24, &mxcsr, sizeof mxcsr);
        for (auto& each : state.ymm)
            for (std::size_t i = 0; i < sizeof each; i += 8) {
                const std::uint64_t value = random_();
                std::memcpy(each + i, &value, sizeof value);
            }
        for (std::size_t i = 0; i < 16; ++i) std::memcpy(state.fx + 160 + 16 * i, state.ymm[i], 16);
    }
    std::uint64_t next() { return random_(); }

private:
    std::mt19937_64 random_{20261122};
};

inline void expect_same(const State& before, const State& after, const char* what) {
    for (int i = 0; i < gprs; ++i)
        EXPECT_TRUE(i == rsp || before.gpr[i] == after.gpr[i])
            << what << ": general register " << i << std::hex << " " << before.gpr[i] << " " << after.gpr[i];
    EXPECT_EQ(before.rflags & (status_flags | direction_flag), after.rflags & (status_flags | direction_flag)) << what;
    EXPECT_EQ(std::memcmp(before.fx, after.fx, 32), 0) << what << ": x87 control, MXCSR";
    EXPECT_EQ(std::memcmp(before.fx + 32, after.fx + 32, 128), 0) << what << ": x87 registers";
    EXPECT_EQ(std::memcmp(before.fx + 160, after.fx + 160, 256), 0) << what << ": xmm";
    EXPECT_TRUE(!has_ymm() || std::memcmp(before.ymm, after.ymm, sizeof before.ymm) == 0) << what << ": ymm";
}

}  // namespace dynfunc::test
