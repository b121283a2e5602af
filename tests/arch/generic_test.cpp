// SPDX-License-Identifier: MIT
// The machine that patches nothing refuses everything.
#include <gtest/gtest.h>

#include <vector>

#include "arch.hpp"

namespace dynfunc::arch {
namespace {

TEST(Capabilities, PatchNoText) {
    EXPECT_FALSE(capabilities().patches_text);
    EXPECT_EQ(capabilities().integer_registers, 0);
    EXPECT_EQ(capabilities().vector_registers, 0);
}

TEST(EncodeSite, EverySiteIsNotWritable) {
    const Address site{0x401000};
    for (SiteKind kind : {SiteKind::call, SiteKind::tail_call, SiteKind::branch})
        for (Address target : {Address{}, site, site + 0x100, site - 0x100}) {
            const auto encoded = encode_site(kind, site, target);
            ASSERT_FALSE(encoded.has_value());
            EXPECT_EQ(encoded.error().code, Errc::text_not_writable);
            EXPECT_EQ(encoded.error().address.value, site.value);
        }
}

TEST(IsSlotJump, RefusesEverything) {
    const std::vector<std::byte> zeros(16);
    EXPECT_FALSE(is_slot_jump(zeros, Address{0x401000}, Address{0x401000}));
    EXPECT_FALSE(is_slot_jump({}, Address{}, Address{}));
}

TEST(EncodeChain, EveryChainIsNotWritable) {
    const std::vector<ChainCall> calls(2, ChainCall{Address{0x402000}, 0, false, nullptr});
    const ArgumentLayout layout{.integers = 2, .vectors = 0, .data_in_register = true, .stack_words = 0};
    std::vector<std::byte> room(256);
    const auto encoded = encode_chain(calls, layout, Address{0x401000}, room);
    ASSERT_FALSE(encoded.has_value());
    EXPECT_EQ(encoded.error().code, Errc::text_not_writable);
    EXPECT_EQ(encoded.error().address.value, 0x401000u);
    EXPECT_EQ(room, std::vector<std::byte>(256));
    EXPECT_EQ(chain_bytes(calls.size(), layout), 0u);
}

}  // namespace
}  // namespace dynfunc::arch
