// SPDX-License-Identifier: MIT
// The code of the library's own on which start-up tries whether patching works, on a machine that patches text.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "arch.hpp"

namespace dynfunc::arch {
namespace {

constexpr std::size_t page_bytes = 4096;

Address page_of(Address a) { return Address{a.value & ~(page_bytes - 1)}; }

TEST(ProbeCode, ReachesFirstUntilPatched) { EXPECT_EQ(probe_code().run(), 1); }

TEST(ProbeCode, TargetsReturnTheirNumbers) {
    EXPECT_EQ(probe_code().first.as<int (*)()>()(), 1);
    EXPECT_EQ(probe_code().second.as<int (*)()>()(), 2);
}

TEST(ProbeCode, SiteIsAlignedLikeATrampoline) { EXPECT_EQ(probe_code().site.value % 8, 0u); }

TEST(ProbeCode, SiteHoldsWhatTheEncoderMakes) {
    const ProbeCode probe = probe_code();
    const auto encoded = encode_site(SiteKind::tail_call, probe.site, probe.first);
    ASSERT_TRUE(encoded.has_value());
    EXPECT_EQ(std::memcmp(probe.site.as<const void*>(), encoded->bytes.data(), encoded->size), 0);
}

TEST(ProbeCode, StandsOnAPageOfItsOwn) {
    const ProbeCode probe = probe_code();
    const Address page = page_of(Address::of(probe.run));
    EXPECT_EQ(page.value, Address::of(probe.run).value) << "code of others may stand before it";
    for (Address place : {probe.site, probe.first, probe.second}) EXPECT_EQ(page_of(place).value, page.value);
}

// The distances inside a copy are those of the original, so the bytes for one site fit the other.
TEST(ProbeCode, PatchedCopyReachesSecond) {
    const ProbeCode probe = probe_code();
    const Address page = page_of(probe.site);
    void* const copy = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(copy, MAP_FAILED);
    std::memcpy(copy, page.as<const void*>(), page_bytes);
    const Address site = Address::of(copy) + (probe.site - page);
    const auto encoded = encode_site(SiteKind::tail_call, probe.site, probe.second);
    ASSERT_TRUE(encoded.has_value());
    std::memcpy(site.as<void*>(), encoded->bytes.data(), encoded->size);
    ASSERT_EQ(mprotect(copy, page_bytes, PROT_READ | PROT_EXEC), 0);
    flush_text(AddressRange{Address::of(copy), Address::of(copy) + page_bytes});
    const Address run = Address::of(copy) + (Address::of(probe.run) - page);
    EXPECT_EQ(run.as<int (*)()>()(), 2);
    munmap(copy, page_bytes);
}

}  // namespace
}  // namespace dynfunc::arch
