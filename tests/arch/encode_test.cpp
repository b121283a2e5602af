// SPDX-License-Identifier: MIT
// The encoder of one machine that patches text, built on any host: one program per machine.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>

#include "machine.hpp"

namespace dynfunc::arch::test {
namespace {

constexpr std::array kinds{SiteKind::call, SiteKind::tail_call, SiteKind::branch};

// A place in the middle of the usual ones, one below 4 GiB and one high up; all with room for both limits of reach.
constexpr std::array sites{Address{0x5555'5555'1008}, Address{0x9000'0010}, Address{0x7fff'f7dd'1ffc}};

std::span<const std::byte> bytes_of(const std::vector<std::uint8_t>& bytes) { return std::as_bytes(std::span(bytes)); }

std::string text(SiteKind kind, Address site, Address target) {
    char line[96];
    std::snprintf(line, sizeof line, "kind %d, site %#zx, target %#zx", static_cast<int>(kind), site.value, target.value);
    return line;
}

void expect_reached(SiteKind kind, Address site, Address target) {
    SCOPED_TRACE(text(kind, site, target));
    const auto encoded = encode_site(kind, site, target);
    ASSERT_TRUE(encoded.has_value());
    ASSERT_EQ(encoded->size, expected_capabilities.site_bytes);
    const auto decoded = decode(encoded->span(), site);
    ASSERT_EQ(decoded.size(), 1u);
    EXPECT_EQ(decoded[0].mnemonic, kind == SiteKind::call ? mnemonics.call : mnemonics.jump);
    EXPECT_EQ(decoded[0].size, expected_capabilities.site_bytes);
    ASSERT_TRUE(decoded[0].target.has_value());
    EXPECT_EQ(decoded[0].target->value, target.value);
}

void expect_out_of_reach(SiteKind kind, Address site, Address target) {
    SCOPED_TRACE(text(kind, site, target));
    const auto encoded = encode_site(kind, site, target);
    ASSERT_FALSE(encoded.has_value());
    EXPECT_EQ(encoded.error().code, Errc::out_of_reach);
    EXPECT_EQ(encoded.error().address.value, target.value);
    EXPECT_EQ(encoded.error().os_error, 0);
}

void expect_each_reached(std::ptrdiff_t distance) {
    for (SiteKind kind : kinds)
        for (Address site : sites) expect_reached(kind, site, site + distance);
}

void expect_each_out_of_reach(std::ptrdiff_t distance) {
    for (SiteKind kind : kinds)
        for (Address site : sites) expect_out_of_reach(kind, site, site + distance);
}

TEST(Capabilities, AreThoseOfTheMachine) {
    const Capabilities& is = capabilities();
    EXPECT_EQ(is.patches_text, expected_capabilities.patches_text);
    EXPECT_EQ(is.site_bytes, expected_capabilities.site_bytes);
    EXPECT_EQ(is.word_bytes, expected_capabilities.word_bytes);
    EXPECT_EQ(is.copied_bytes, expected_capabilities.copied_bytes);
    EXPECT_EQ(is.integer_registers, expected_capabilities.integer_registers);
    EXPECT_EQ(is.vector_registers, expected_capabilities.vector_registers);
    EXPECT_EQ(is.swaps_return, expected_capabilities.swaps_return);
    EXPECT_EQ(is.slot_jump_bytes, expected_capabilities.slot_jump_bytes);
    EXPECT_EQ(is.reference_bytes, expected_capabilities.reference_bytes);
    EXPECT_EQ(is.reach_back, expected_capabilities.reach_back);
    EXPECT_EQ(is.reach_ahead, expected_capabilities.reach_ahead);
}

TEST(EncodeSite, ForwardJumpReachesItsLimit) {
    expect_each_reached(expected_capabilities.reach_ahead);
    expect_each_reached(expected_capabilities.reach_ahead - target_step);
}

TEST(EncodeSite, BackwardJumpReachesItsLimit) {
    expect_each_reached(expected_capabilities.reach_back);
    expect_each_reached(expected_capabilities.reach_back + target_step);
}

TEST(EncodeSite, ForwardJumpBeyondItsLimitIsOutOfReach) {
    expect_each_out_of_reach(expected_capabilities.reach_ahead + 1);
    expect_each_out_of_reach(expected_capabilities.reach_ahead + target_step);
}

TEST(EncodeSite, BackwardJumpBeyondItsLimitIsOutOfReach) {
    expect_each_out_of_reach(expected_capabilities.reach_back - 1);
    expect_each_out_of_reach(expected_capabilities.reach_back - target_step);
}

TEST(EncodeSite, EveryDistanceWithinReachIsDecodedAgain) {
    expect_each_reached(0);
    for (std::ptrdiff_t distance = target_step; distance <= expected_capabilities.reach_ahead / 2; distance *= 2)
        for (std::ptrdiff_t off : {-target_step, std::ptrdiff_t{0}, target_step}) {
            expect_each_reached(distance + off);
            expect_each_reached(-distance - off);
        }
}

// A displacement that is cut to its field would make these the site itself or a place near it.
TEST(EncodeSite, DistanceThatWouldBeCutIsOutOfReach) {
    for (int bit = 33; bit < 64; ++bit)
        for (std::ptrdiff_t off : {std::ptrdiff_t{-4096}, std::ptrdiff_t{0}, std::ptrdiff_t{4096}})
            for (SiteKind kind : kinds)
                for (Address site : sites) {
                    const Address ahead{site.value + (std::uintptr_t{1} << bit) + static_cast<std::uintptr_t>(off)};
                    const Address behind{site.value - (std::uintptr_t{1} << bit) + static_cast<std::uintptr_t>(off)};
                    expect_out_of_reach(kind, site, ahead);
                    expect_out_of_reach(kind, site, behind);
                }
}

TEST(EncodeSite, AddressSpaceIsACircle) {
    const Address last = Address{0} - 0x1000;
    for (SiteKind kind : kinds) {
        expect_reached(kind, last, Address{0x2000});
        expect_reached(kind, Address{0x2000}, last);
        expect_reached(kind, last, last + expected_capabilities.reach_ahead);
        expect_reached(kind, Address{0x2000}, Address{0x2000} + expected_capabilities.reach_back);
        expect_out_of_reach(kind, last, last + expected_capabilities.reach_ahead + target_step);
        expect_out_of_reach(kind, Address{0x2000}, Address{0x2000} + expected_capabilities.reach_back - target_step);
    }
}

TEST(EncodeSite, MisalignedTargetIsOutOfReach) {
    for (std::ptrdiff_t off = 1; off < target_step; ++off) {
        expect_each_out_of_reach(0x1000 + off);
        expect_each_out_of_reach(-0x1000 + off);
    }
}

TEST(EncodeSite, SiteWithoutTargetIsNopOrReturn) {
    for (SiteKind kind : kinds)
        for (Address site : sites) {
            SCOPED_TRACE(text(kind, site, Address{}));
            const auto encoded = encode_site(kind, site, Address{});
            ASSERT_TRUE(encoded.has_value());
            ASSERT_EQ(encoded->size, expected_capabilities.site_bytes);
            const auto decoded = decode(encoded->span(), site);
            ASSERT_FALSE(decoded.empty());
            EXPECT_FALSE(decoded[0].target.has_value());
            if (kind == SiteKind::tail_call) {
                EXPECT_EQ(decoded[0].mnemonic, mnemonics.ret);
                for (std::size_t i = 1; i < decoded.size(); ++i) EXPECT_EQ(decoded[i].mnemonic, mnemonics.padding);
            } else {
                EXPECT_EQ(decoded[0].mnemonic, mnemonics.nop);
                EXPECT_EQ(decoded.size(), 1u) << "a nop of several instructions can be entered in its middle";
            }
        }
}

TEST(EncodeSite, BytesAreThoseOfAnAssembler) {
    for (const Sample& sample : samples) {
        SCOPED_TRACE(text(sample.kind, sample.site, sample.target));
        const auto encoded = encode_site(sample.kind, sample.site, sample.target);
        ASSERT_TRUE(encoded.has_value());
        const auto is = encoded->span(), should = bytes_of(sample.bytes);
        EXPECT_TRUE(std::vector(is.begin(), is.end()) == std::vector(should.begin(), should.end()));
    }
}

TEST(IsBranchJump, RecognisesTheJumpOfASiteAndNothingElse) {
    for (const Address site : sites)
        for (const SiteKind kind : kinds)
            for (const Address target : {Address{}, site + 64, site - 4096}) {
                const auto encoded = encode_site(kind, site, target);
                ASSERT_TRUE(encoded);
                EXPECT_EQ(is_branch_jump(encoded->span()), target && kind != SiteKind::call) << text(kind, site, target);
                EXPECT_FALSE(is_branch_jump(encoded->span().first(encoded->size - 1u)));
            }
    for (const SlotSample& sample : slot_jumps) EXPECT_FALSE(is_branch_jump(bytes_of(sample.bytes))) << sample.what;
}

TEST(IsSlotJump, RecognisesTheSlotForm) {
    for (const SlotSample& sample : slot_jumps) {
        SCOPED_TRACE(sample.what);
        EXPECT_TRUE(is_slot_jump(bytes_of(sample.bytes), sample.site, sample.slot));
    }
}

TEST(IsSlotJump, RefusesEverythingElse) {
    for (const SlotSample& sample : not_slot_jumps) {
        SCOPED_TRACE(sample.what);
        EXPECT_FALSE(is_slot_jump(bytes_of(sample.bytes), sample.site, sample.slot));
    }
}

// What is cut off still stands behind the span: a read beyond its end would recognise it.
TEST(IsSlotJump, RefusesTruncatedCode) {
    const SlotSample& whole = slot_jumps.front();
    for (std::size_t size = 0; size < expected_capabilities.slot_jump_bytes; ++size) {
        SCOPED_TRACE(size);
        EXPECT_FALSE(is_slot_jump(bytes_of(whole.bytes).first(size), whole.site, whole.slot));
    }
    EXPECT_TRUE(is_slot_jump(bytes_of(whole.bytes).first(expected_capabilities.slot_jump_bytes), whole.site, whole.slot));
}

TEST(IsSlotJump, RefusesEveryInstructionOfASite) {
    const SlotSample& whole = slot_jumps.front();
    for (SiteKind kind : kinds)
        for (Address target : {Address{}, whole.slot, whole.site + 0x1000}) {
            SCOPED_TRACE(text(kind, whole.site, target));
            std::vector<std::uint8_t> bytes = whole.bytes;
            const auto encoded = encode_site(kind, whole.site, target);
            ASSERT_TRUE(encoded.has_value());
            for (std::size_t i = 0; i < encoded->size; ++i) bytes[i] = std::to_integer<std::uint8_t>(encoded->bytes[i]);
            if (bytes == whole.bytes) continue;  // on some machines its first instruction is one
            EXPECT_FALSE(is_slot_jump(bytes_of(bytes), whole.site, whole.slot));
        }
}

// Each bit belongs to the opcode, a register or the address, so no other pattern names the same slot.
TEST(IsSlotJump, RefusesEveryFlippedBit) {
    for (const SlotSample& whole : slot_jumps) {
        for (std::size_t bit = 0; bit < std::size_t{expected_capabilities.slot_jump_bytes} * 8; ++bit) {
            SCOPED_TRACE(std::string(whole.what) + ", bit " + std::to_string(bit));
            std::vector<std::uint8_t> bytes = whole.bytes;
            bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ 1u << bit % 8);
            EXPECT_FALSE(is_slot_jump(bytes_of(bytes), whole.site, whole.slot));
        }
    }
}

}  // namespace
}  // namespace dynfunc::arch::test
