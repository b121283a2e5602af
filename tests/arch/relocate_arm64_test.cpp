// SPDX-License-Identifier: MIT
// Copies of arm64 instructions, read again by Capstone, on any host.
#include "jump_plan.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "capstone.hpp"

namespace dynfunc::arch {
namespace {

constexpr Address home{0xaaaa'b000'1230};
constexpr std::ptrdiff_t away = 0x345'6780;

using test::Text;

std::array<std::byte, 4> bytes_of(std::uint32_t word) {
    std::array<std::byte, 4> bytes;
    for (std::size_t i = 0; i < 4; ++i) bytes[i] = static_cast<std::byte>(word >> (8 * i));
    return bytes;
}

class Capstone : test::Capstone {
public:
    Capstone() : test::Capstone(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN) {}
    Text operator()(std::uint32_t word, Address at) { return test::Capstone::operator()(bytes_of(word), at); }
};

struct Copied {
    Displaced displaced;
    std::vector<std::uint32_t> words;
    Address at(std::size_t i) const { return home + away + static_cast<std::ptrdiff_t>(4 * i); }
};

Result<Copied> copy_of(std::uint32_t word, Address runs_at = home + away) {
    const auto displaced = read_displaced(bytes_of(word), home, 4);
    if (!displaced) return std::unexpected(displaced.error());
    std::array<std::byte, Relocated::most_bytes> room;
    const auto relocated = relocate(*displaced, runs_at, room);
    if (!relocated) return std::unexpected(relocated.error());
    Copied copied{.displaced = *displaced, .words = {}};
    for (std::size_t i = 0; i < relocated->size; i += 4) {
        std::uint32_t one = 0;
        for (std::size_t k = 0; k < 4; ++k) one |= std::to_integer<std::uint32_t>(room[i + k]) << (8 * k);
        copied.words.push_back(one);
    }
    return copied;
}

std::string name_of(std::uint32_t reg) {
    char name[8];
    std::snprintf(name, sizeof name, "x%u", reg);
    return name;
}

std::uint64_t number(const Text& text) {
    const std::size_t hash = text.operands.rfind("#");
    return hash == std::string::npos ? 0 : std::stoull(text.operands.substr(hash + 1), nullptr, 0);
}
Address branch_target(Capstone& decode, std::uint32_t word, Address at) { return Address{number(decode(word, at))}; }

// What movz and movk from word `i` on leave in a register; `i` is then behind them.
std::uint64_t moved_value(const Copied& copied, std::size_t& i, std::uint32_t reg) {
    std::uint64_t value = 0;
    for (; i < copied.words.size(); ++i) {
        const std::uint32_t word = copied.words[i];
        const bool is_movz = (word & 0xff80'0000) == 0xd280'0000, is_movk = (word & 0xff80'0000) == 0xf280'0000;
        if ((!is_movz && !is_movk) || (word & 31) != reg) break;
        if (is_movz) value = 0;
        value |= static_cast<std::uint64_t>(word >> 5 & 0xffff) << (16 * (word >> 21 & 3));
    }
    return value;
}

TEST(RelocateArm64, MostAreTheSameAndGoBack) {
    Capstone decode;
    std::mt19937 random(64);
    std::size_t same = 0, refused = 0;
    for (int round = 0; round < 300'000; ++round) {
        const auto word = static_cast<std::uint32_t>(random());
        const Text original = decode(word, home);
        const auto copied = copy_of(word);
        if (!copied) {
            ++refused;
            EXPECT_TRUE(copied.error().address);
            continue;
        }
        if (original.mnemonic.empty()) continue;
        // Whatever has an address of its own as an operand is another test's.
        const bool refers = original.mnemonic[0] == 'b' || original.mnemonic.starts_with("cb") ||
                            original.mnemonic.starts_with("tb") || original.mnemonic.starts_with("adr") ||
                            ((original.mnemonic.starts_with("ldr") || original.mnemonic == "prfm") &&
                             original.operands.find('[') == std::string::npos);
        if (refers && original.mnemonic != "bic" && original.mnemonic != "bics" && original.mnemonic != "bfm" &&
            !original.mnemonic.starts_with("bf") && original.mnemonic != "bit" && original.mnemonic != "bif" &&
            original.mnemonic != "bsl" && original.mnemonic != "brk")
            continue;
        ASSERT_EQ(copied->words[0], word) << original;
        if (copied->displaced.goes_on) {
            ASSERT_EQ(copied->words.size(), 2u) << original;
            ASSERT_EQ(branch_target(decode, copied->words[1], copied->at(1)), home + 4);
        } else {
            ASSERT_EQ(copied->words.size(), 1u) << original;
        }
        ++same;
    }
    std::printf("%zu the same, %zu refused\n", same, refused);
    EXPECT_GT(same, 50'000u);
}

TEST(RelocateArm64, BranchesLeadWhereTheyLed) {
    Capstone decode;
    std::mt19937 random(65);
    for (int round = 0; round < 20'000; ++round) {
        const auto bits = static_cast<std::uint32_t>(random());
        const std::uint32_t words[] = {
            0x1400'0000 | (bits & 0x00ff'ffff),  // b, in reach of the copy
            0x9400'0000 | (bits & 0x00ff'ffff),  // bl
            0x5400'0000 | (bits & 0x00ff'ffef),  // b.cond
            0x3400'0000 | (bits & 0x81ff'ffff),  // cbz, cbnz
            0x3600'0000 | (bits & 0x81ff'ffff),  // tbz, tbnz
        };
        for (const std::uint32_t word : words) {
            const Text original = decode(word, home);
            ASSERT_FALSE(original.mnemonic.empty());
            const auto copied = copy_of(word);
            ASSERT_TRUE(copied) << original;
            const Address target = branch_target(decode, word, home);
            std::size_t i = 0;
            if (original.mnemonic == "b") {
                ASSERT_EQ(copied->words.size(), 1u);
            } else if (original.mnemonic == "bl") {
                ASSERT_EQ(moved_value(*copied, i, 30), (home + 4).value);
                ASSERT_EQ(copied->words.size(), i + 1);
            } else {
                // The same condition over a jump; then the branch; then back.
                const Text conditional = decode(copied->words[0], copied->at(0));
                ASSERT_EQ(conditional.mnemonic, original.mnemonic);
                ASSERT_EQ(conditional.operands.substr(0, conditional.operands.rfind('#')),
                          original.operands.substr(0, original.operands.rfind('#')));
                ASSERT_EQ(branch_target(decode, copied->words[0], copied->at(0)), copied->at(2));
                ASSERT_EQ(branch_target(decode, copied->words[1], copied->at(1)), copied->at(3));
                ASSERT_EQ(branch_target(decode, copied->words[3], copied->at(3)), home + 4);
                i = 2;
            }
            ASSERT_EQ(decode(copied->words[i], copied->at(i)).mnemonic, "b");
            ASSERT_EQ(branch_target(decode, copied->words[i], copied->at(i)), target) << original;
        }
    }
}

TEST(RelocateArm64, AddressesAndLiteralsStayWhatTheyWere) {
    Capstone decode;
    std::mt19937 random(66);
    for (int round = 0; round < 20'000; ++round) {
        const auto bits = static_cast<std::uint32_t>(random());
        const std::uint32_t rd = bits & 31;
        for (const std::uint32_t word : {0x1000'0000 | (bits & 0x60ff'ffff), 0x9000'0000 | (bits & 0x60ff'ffff)}) {
            const auto copied = copy_of(word);
            ASSERT_TRUE(copied);
            std::size_t i = 0;
            if (rd == 31) {
                ASSERT_EQ(copied->words[0], 0xd503'201f);
                continue;
            }
            ASSERT_EQ(moved_value(*copied, i, rd), number(decode(word, home))) << decode(word, home);
            ASSERT_EQ(branch_target(decode, copied->words[i], copied->at(i)), home + 4);
        }
        for (const std::uint32_t kind : {0u, 1u, 2u}) {
            const std::uint32_t word = 0x1800'0000 | kind << 30 | (bits & 0x00ff'ffff);
            const auto copied = copy_of(word);
            if (rd == 31) {
                EXPECT_EQ(copied.error().code, Errc::not_movable);
                continue;
            }
            ASSERT_TRUE(copied);
            std::size_t i = 0;
            ASSERT_EQ(moved_value(*copied, i, rd), number(decode(word, home)));
            const Text original = decode(word, home), load = decode(copied->words[i], copied->at(i));
            ASSERT_EQ(load.mnemonic, original.mnemonic);
            std::string reg = original.operands.substr(0, original.operands.find(','));
            ASSERT_EQ(load.operands, reg.append(", [").append(name_of(rd)).append("]"));
        }
    }
}

TEST(RelocateArm64, CallsThroughRegistersBecomeJumps) {
    Capstone decode;
    for (std::uint32_t reg = 0; reg < 31; ++reg) {
        const std::uint32_t word = 0xd63f'0000 | reg << 5;
        const auto copied = copy_of(word);
        if (reg == 30) {
            EXPECT_EQ(copied.error().code, Errc::not_movable);
            EXPECT_EQ(copied.error().address, home);
            continue;
        }
        ASSERT_TRUE(copied);
        std::size_t i = 0;
        EXPECT_EQ(moved_value(*copied, i, 30), (home + 4).value);
        ASSERT_EQ(copied->words.size(), i + 1);
        EXPECT_EQ(decode(copied->words[i], home), (Text{"br", name_of(reg)}));
        EXPECT_EQ(copied->displaced.calls, 1);
    }
    const auto authenticated = copy_of(0xd73f'0800 | 3 << 5 | 4);  // blraa x3, x4
    ASSERT_TRUE(authenticated);
    EXPECT_EQ(authenticated->words.back(), 0xd71f'0800u | 3 << 5 | 4);
    EXPECT_EQ(copy_of(0xd73f'0800 | 3 << 5 | 30).error().code, Errc::not_movable);
}

TEST(RelocateArm64, WhatIsTooFarIsRefusedWithWhatItRefersTo) {
    const auto branch = copy_of(0x1400'0000 | 0x1ff'ffff, home - (std::ptrdiff_t{64} << 20));  // 128 MiB ahead
    ASSERT_FALSE(branch);
    EXPECT_EQ(branch.error().code, Errc::out_of_reach);
    EXPECT_EQ(branch.error().address, home + 0x1ff'ffff * std::ptrdiff_t{4});
    const auto vector = copy_of(0x5c00'0000 | 8 << 5 | 1);  // ldr d1, home + 32
    ASSERT_FALSE(vector);
    EXPECT_EQ(vector.error().code, Errc::out_of_reach);
    EXPECT_EQ(vector.error().address, home + 32);
    const auto near = copy_of(0x5c00'0000 | 8 << 5 | 1, home + 4096);
    ASSERT_TRUE(near);
    Capstone decode;
    EXPECT_EQ(decode(near->words[0], home + 4096), decode(0x5c00'0000 | 8 << 5 | 1, home));
    EXPECT_EQ(copy_of(0xd800'0000 | 8 << 5)->words[0], 0xd503'201fu) << "a prefetch that is too far is left out";
}

TEST(RelocateArm64, KnowsWhereExecutionEnds) {
    for (const std::uint32_t word : {0xd65f'03c0u, 0xd65f'0bffu, 0xd61f'0200u, 0x1400'0004u, 0x0000'0000u, 0xd71f'0811u})
        EXPECT_FALSE(copy_of(word)->displaced.goes_on) << std::hex << word;
    for (const std::uint32_t word : {0xd503'201fu, 0xd63f'0000u, 0x9400'0004u, 0x5400'0080u, 0xd400'0001u})
        EXPECT_TRUE(copy_of(word)->displaced.goes_on) << std::hex << word;
    std::array<std::byte, 4> code{};
    EXPECT_EQ(read_displaced(code, home + 2, 4).error().code, Errc::not_an_instruction);
    EXPECT_EQ(read_displaced(std::span(code).first(3), home, 4).error().code, Errc::not_an_instruction);
}

TEST(RelocateArm64, EveryPlanIsOneInstruction) {
    const auto nop = bytes_of(0xd503'201f);
    const auto planned = plan_jump(JumpForm::whole, {.at = home, .code = nop, .free_behind = 0, .branches_to = 0b1110});
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->written, 4);
    EXPECT_EQ(planned->given_mask, 0u);
    EXPECT_EQ(planned->distance_from, 0);
}

}  // namespace
}  // namespace dynfunc::arch
