// SPDX-License-Identifier: MIT
// x86-64: what a signal handler does in the place of a site's instruction, against the processor.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "arch.hpp"

namespace dynfunc::arch {
namespace {

constexpr Address at{0x5555'0000'1000};

using Code = std::vector<std::byte>;

// An instruction with its distance behind it.
Code with_distance(std::initializer_list<int> opcode, std::int32_t distance) {
    Code code;
    for (const int byte : opcode) code.push_back(static_cast<std::byte>(byte));
    for (int shift = 0; shift < 32; shift += 8) code.push_back(static_cast<std::byte>(distance >> shift));
    code.resize(8, std::byte{0xcc});
    return code;
}

class Thread {
public:
    Thread() { context_.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(&stack_[8]); }
    bool step(const Code& code) { return step_over_site(&context_, code, at); }
    Address stands_at() const { return Address{static_cast<std::uintptr_t>(context_.uc_mcontext.gregs[REG_RIP])}; }
    std::ptrdiff_t pushed() const {
        return &stack_[8] - reinterpret_cast<const std::uintptr_t*>(context_.uc_mcontext.gregs[REG_RSP]);
    }
    std::uintptr_t& stack(std::ptrdiff_t k) { return stack_[static_cast<std::size_t>(8 + k)]; }
    void set_flags(greg_t flags) { context_.uc_mcontext.gregs[REG_EFL] = flags; }

private:
    ucontext_t context_{};
    std::array<std::uintptr_t, 16> stack_{};
};

TEST(StepOver, Jumps) {
    for (const std::int32_t distance : {0, 1, -5, 0x7fff'ffff, INT32_MIN}) {
        Thread thread;
        ASSERT_TRUE(thread.step(with_distance({0xe9}, distance)));
        EXPECT_EQ(thread.stands_at(), at + 5 + distance);
        EXPECT_EQ(thread.pushed(), 0);
    }
}

TEST(StepOver, CallsPushWhereTheyComeBackTo) {
    Thread thread;
    ASSERT_TRUE(thread.step(with_distance({0xe8}, -77)));
    EXPECT_EQ(thread.stands_at(), at + 5 - 77);
    EXPECT_EQ(thread.pushed(), 1);
    EXPECT_EQ(thread.stack(-1), (at + 5).value);
}

TEST(StepOver, ReturnsAndNops) {
    Thread returning;
    returning.stack(0) = 0x1234;
    ASSERT_TRUE(returning.step({std::byte{0xc3}, {}, {}, {}, {}, {}, {}}));
    EXPECT_EQ(returning.stands_at().value, 0x1234U);
    EXPECT_EQ(returning.pushed(), -1);
    Thread idle;
    ASSERT_TRUE(idle.step(with_distance({0x0f, 0x1f, 0x44, 0x00}, 0)));
    EXPECT_EQ(idle.stands_at(), at + 5);
}

TEST(StepOver, JumpsThroughAPointer) {
    auto* const near = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(near, MAP_FAILED);
    const std::uintptr_t target = 0x7777'1234;
    std::memcpy(near + 64, &target, sizeof target);
    ucontext_t context{};
    const Code code = with_distance({0xff, 0x25}, 64 - 6);
    ASSERT_TRUE(step_over_site(&context, code, Address::of(near)));
    EXPECT_EQ(static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]), target);
    munmap(near, 4096);
}

TEST(StepOver, RefusesWhatStandsAtNoSite) {
    std::mt19937 random(1);
    for (int i = 0; i < 100'000; ++i) {
        Code code(8);
        for (std::byte& byte : code) byte = static_cast<std::byte>(random());
        const auto first = std::to_integer<int>(code[0]), second = std::to_integer<int>(code[1]);
        const bool is_site = first == 0xe8 || first == 0xe9 || first == 0xc3 || (first == 0xff && second == 0x25) ||
                             (first == 0x0f && (second >> 4 == 0x8 || second == 0x1f));
        if (is_site) continue;
        Thread thread;
        EXPECT_FALSE(thread.step(code)) << first << ' ' << second;
        EXPECT_EQ(thread.stands_at(), Address{});
    }
    Thread thread;
    EXPECT_FALSE(thread.step({std::byte{0xe9}}));
}

// All conditions with all flags, each run by the processor too.
TEST(StepOver, ConditionsAreTheProcessors) {
    auto* const page = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(page, MAP_FAILED);
    constexpr std::size_t bytes = 32;
    for (unsigned condition = 0; condition < 16; ++condition) {
        // push %rdi; popf; jcc over the next; xor %eax, %eax; ret; mov $1, %eax; ret
        const auto jcc = static_cast<unsigned char>(0x80 + condition);
        const std::array<unsigned char, 18> code{0x57, 0x9d, 0x0f, jcc, 3, 0, 0, 0,    0x31,
                                                 0xc0, 0xc3, 0xb8, 1,   0, 0, 0, 0xc3, 0xcc};
        std::memcpy(page + condition * bytes, code.data(), code.size());
    }
    ASSERT_EQ(mprotect(page, 4096, PROT_READ | PROT_EXEC), 0);
    for (unsigned condition = 0; condition < 16; ++condition) {
        const auto runs = reinterpret_cast<int (*)(std::uint64_t)>(page + condition * bytes);
        for (unsigned mask = 0; mask < 32; ++mask) {
            std::uint64_t flags = 0x202;
            for (unsigned i = 0; const unsigned bit : {0U, 2U, 6U, 7U, 11U}) flags |= std::uint64_t{mask >> i++ & 1} << bit;
            Thread thread;
            thread.set_flags(static_cast<greg_t>(flags));
            ASSERT_TRUE(thread.step(with_distance({0x0f, static_cast<int>(0x80 + condition)}, 1000)));
            EXPECT_EQ(thread.stands_at(), runs(flags) != 0 ? at + 1006 : at + 6)
                << "condition " << condition << " flags " << flags;
        }
    }
    munmap(page, 4096);
}

}  // namespace
}  // namespace dynfunc::arch
