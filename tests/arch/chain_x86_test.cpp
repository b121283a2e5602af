// SPDX-License-Identifier: MIT
// What chains of x86-64 choose among: the instruction that loads data, and how a counter is reached.
#include <gtest/gtest.h>

#include <array>

#include "machine.hpp"

namespace dynfunc::arch::test {
namespace {

constexpr Address runs_at{0x5555'5555'1000};
constexpr std::ptrdiff_t landing_pad_bytes = 4, lea_bytes = 7, inc_bytes = 8;
constexpr std::ptrdiff_t farthest_ahead = 0x7fff'ffff, farthest_back = -0x8000'0000LL;

// What stands behind the landing pad of a chain of one callee.
std::vector<Decoded> first_steps(const ChainCall& call, std::uint8_t integers) {
    const ArgumentLayout layout{.integers = integers, .vectors = 0, .data_in_register = true, .stack_words = 0};
    std::array<std::byte, 64> room;
    const auto size = encode_chain(std::span(&call, 1), layout, runs_at, room);
    EXPECT_EQ(size.value_or(0) % 16, 0u);
    std::vector<Decoded> code = decode(std::span(room).first(size.value_or(0)), runs_at);
    code.erase(code.begin());
    return code;
}

Decoded load_of(std::uint64_t data, std::uint8_t integers) {
    return first_steps({.function = runs_at + 0x1000, .data = data, .has_data = true, .hits = nullptr}, integers)[0];
}

struct Load {
    std::uint64_t data;
    std::string_view mnemonic;
    std::size_t size;  // in registers of the lower eight; those of r8 and r9 with 32 bits need a prefix
    bool always_prefixed;
};

TEST(ChainData, IsLoadedByTheShortestInstruction) {
    constexpr std::array loads{
        Load{0, "xor", 2, false},
        Load{1, "mov", 5, false},
        Load{0x7fff'ffff, "mov", 5, false},
        Load{0x8000'0000, "mov", 5, false},
        Load{0xffff'ffff, "mov", 5, false},
        Load{0x1'0000'0000, "mov", 10, true},
        Load{0xffff'ffff'ffff'ffff, "mov", 7, true},
        Load{0xffff'ffff'8000'0000, "mov", 7, true},
        Load{0xffff'ffff'7fff'ffff, "mov", 10, true},
        Load{0x5555'5555'0008, "lea", 7, true},
        Load{0x7fff'ffff'ffff, "mov", 10, true},
    };
    for (const Load& load : loads)
        for (std::uint8_t integers = 0; integers < 6; ++integers) {
            SCOPED_TRACE(testing::Message() << std::hex << load.data << ", register " << int{integers});
            const Decoded is = load_of(load.data, integers);
            EXPECT_EQ(is.mnemonic, load.mnemonic);
            EXPECT_EQ(is.size, load.size + (integers >= 4 && !load.always_prefixed ? 1 : 0));
        }
}

TEST(ChainData, IsAnAddressUpToTheLimitsOfReach) {
    const Address end = runs_at + landing_pad_bytes + lea_bytes;
    for (std::ptrdiff_t distance : {farthest_back, farthest_ahead}) {
        const Decoded within = load_of((end + distance).value, 2);
        EXPECT_EQ(within.mnemonic, "lea");
        ASSERT_TRUE(within.operand.has_value());
        EXPECT_EQ(within.operand->value, (end + distance).value);
    }
    for (std::ptrdiff_t distance : {farthest_back - 1, farthest_ahead + 1}) {
        const Decoded beyond = load_of((end + distance).value, 2);
        EXPECT_EQ(beyond.mnemonic, "mov");
        EXPECT_EQ(beyond.size, 10u);
    }
}

TEST(ChainHits, AreCountedInPlaceUpToTheLimitsOfReach) {
    const Address end = runs_at + landing_pad_bytes + inc_bytes;
    const auto steps = [](Address hits) { return first_steps({runs_at + 0x1000, 0, false, hits.as<std::uint64_t*>()}, 2); };
    for (std::ptrdiff_t distance : {farthest_back, farthest_ahead}) {
        const Decoded within = steps(end + distance)[0];
        EXPECT_EQ(within.mnemonic, "inc");
        EXPECT_EQ(within.size, static_cast<std::size_t>(inc_bytes));
        ASSERT_TRUE(within.operand.has_value());
        EXPECT_EQ(within.operand->value, (end + distance).value);
    }
    for (std::ptrdiff_t distance : {farthest_back - 1, farthest_ahead + 1}) {
        const std::vector<Decoded> beyond = steps(end + distance);
        EXPECT_EQ(beyond[0].mnemonic, "mov");
        EXPECT_EQ(beyond[0].size, 10u);
        EXPECT_EQ(beyond[1].mnemonic, "inc");
        EXPECT_FALSE(beyond[1].operand.has_value());
    }
}

}  // namespace
}  // namespace dynfunc::arch::test
