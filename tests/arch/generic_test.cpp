// SPDX-License-Identifier: MIT
// The machine that patches nothing refuses everything.
#include <gtest/gtest.h>

#include <vector>

#include "arch.hpp"

namespace dynfunc::arch {
namespace {

TEST(Capabilities, PatchNoText) { EXPECT_FALSE(capabilities().patches_text); }

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

}  // namespace
}  // namespace dynfunc::arch
