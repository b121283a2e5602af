// SPDX-License-Identifier: MIT
// The quick answer is the decoder's, of whatever bytes there are: random ones, and every place of the code of this process.
#include "x86/quick_length.hpp"

#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "x86/decoded.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr Address home{0x5555'5000'0000};
using Room = std::array<std::byte, quick_length_reads>;

struct Counts {
    std::size_t known = 0, quick = 0;
};

void compare(const Room& code, Counts& counts) {
    const auto decoded = decode(code, home);
    const QuickLength quick = quick_length(code.data());
    if (!decoded) return;
    ++counts.known;
    if (quick.size == 0) return;
    ++counts.quick;
    const auto shown = [&code] {
        char text[3 * quick_length_reads + 1];
        for (std::size_t i = 0; i < code.size(); ++i)
            std::snprintf(text + 3 * i, 4, "%02x ", std::to_integer<unsigned>(code[i]));
        return std::string(text);
    };
    ASSERT_EQ(quick.size, decoded->length) << shown();
    const auto target = decoded->target();
    ASSERT_EQ(quick.distance != 0, target.has_value()) << shown();
    ASSERT_FALSE(decoded->is_group5(4)) << shown();
    if (!target) return;
    const std::byte* const field = code.data() + quick.size - quick.distance;
    std::int32_t distance = static_cast<std::int8_t>(*field);
    if (quick.distance != 1) std::memcpy(&distance, field, sizeof distance);
    ASSERT_EQ(home + quick.size + distance, *target) << shown();
}

TEST(QuickLength, OfRandomBytes) {
    std::mt19937_64 random(3);
    Counts counts;
    for (int round = 0; round < 2'000'000 && !testing::Test::HasFatalFailure(); ++round) {
        Room code;
        for (std::byte& byte : code) byte = static_cast<std::byte>(random());
        // With every prefix, alone and in pairs.
        constexpr std::uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x48, 0x64, 0x65, 0x66,
                                             0x67, 0xf0, 0xf2, 0xf3, 0x0f, 0x62, 0xc4, 0xc5};
        for (int i = 0; i < round % 3; ++i)
            code[static_cast<std::size_t>(i)] = std::byte{prefixes[random() % std::size(prefixes)]};
        compare(code, counts);
    }
    EXPECT_GT(counts.quick, counts.known / 2);
}

TEST(QuickLength, OfEveryPlaceInLoadedCode) {
    Counts counts;
    std::vector<std::span<const std::byte>> texts;
    dl_iterate_phdr(
        [](dl_phdr_info* object, std::size_t, void* to) {
            for (const auto& segment : std::span(object->dlpi_phdr, object->dlpi_phnum))
                if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && (segment.p_flags & PF_R) != 0)
                    static_cast<std::vector<std::span<const std::byte>>*>(to)->emplace_back(
                        reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr), segment.p_filesz);
            return 0;
        },
        &texts);
    ASSERT_FALSE(texts.empty());
    for (const auto text : texts)
        for (std::size_t i = 0; i + quick_length_reads <= text.size() && !testing::Test::HasFatalFailure(); ++i) {
            Room code;
            std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(i), code.size(), code.begin());
            compare(code, counts);
        }
    std::printf("of %zu instructions %zu\n", counts.known, counts.quick);
    EXPECT_GT(counts.quick, counts.known * 3 / 4);
}

}  // namespace
}  // namespace dynfunc::arch::x86
