// SPDX-License-Identifier: MIT
#include "text_poke.hpp"

#include <gtest/gtest.h>

#include "arch.hpp"
#include "os.hpp"

#include <array>
#include <cstring>
#include <vector>

namespace dynfunc {
namespace {

// Stands for text; the writer below stands for the system and refuses when it is told to.
alignas(4096) std::array<std::uint64_t, 1024> text{};

class FakeWriting final : public TextWriting {
public:
    TextWriter kind() const noexcept override { return TextWriter::none; }
    bool stores_words() const noexcept override { return false; }
    Result<void> write(Address at, std::span<const std::byte> bytes) noexcept override {
        ++writes;
        sizes.push_back(bytes.size());
        if (writes == refuse_at) return std::unexpected(Error{.code = Errc::text_not_writable, .address = at, .os_error = EIO});
        std::memcpy(at.as<void*>(), bytes.data(), bytes.size());
        return {};
    }
    void forget(AddressRange) noexcept override {}
    Result<void> adopt_in_child() noexcept override { return {}; }

    int writes = 0;
    std::vector<std::size_t> sizes;
    int refuse_at = 0;
};

class TextPokeTest : public testing::Test {
protected:
    void SetUp() override {
        for (std::size_t i = 0; i < text.size(); ++i) text[i] = i;
        if (!may_sync()) GTEST_SKIP() << "membarrier is refused";
        if (!arch::capabilities().patches_text) GTEST_SKIP() << "this build patches nothing";
    }
    void TearDown() override { text.fill(0); }
    static Poke poke(std::size_t index, std::uint64_t replacement) {
        return {Address::of(&text[index]), index, replacement, index,
                static_cast<std::uint8_t>(arch::capabilities().word_bytes)};
    }
    static bool may_sync() { return os::register_sync_cores() == 0; }
    FakeWriting writing_;
    TextPoke poke_{writing_};
};

TEST_F(TextPokeTest, VerifyNamesTheFirstWordThatDiffers) {
    text[7] = 99;
    const std::array batch{poke(3, 0), poke(7, 0), poke(9, 0)};
    const auto intact = TextPoke::verify(batch);
    ASSERT_FALSE(intact);
    EXPECT_EQ(intact.error().code, Errc::bytes_changed);
    EXPECT_EQ(intact.error().address, Address::of(&text[7]));
    EXPECT_EQ(intact.error().element, 7u);
    EXPECT_EQ(writing_.writes, 0);
}

// How many words the kernel may copy at once into running code.
std::size_t words_together() { return arch::capabilities().copied_bytes / arch::capabilities().word_bytes; }

TEST_F(TextPokeTest, CommitSortsAndWritesNeighboursTogether) {
    std::array batch{poke(9, 109), poke(3, 103), poke(4, 104)};
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(text[3], 103u);
    EXPECT_EQ(text[4], 104u);
    EXPECT_EQ(text[9], 109u);
    EXPECT_EQ(text[5], 5u);
    EXPECT_EQ(writing_.writes, words_together() == 1 ? 3 : 2);
}

TEST_F(TextPokeTest, WhatLiesBetweenIsLeftAloneUnlessTold) {
    std::array batch{poke(3, 103), poke(9, 109)};
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(writing_.writes, 2);
}

TEST_F(TextPokeTest, WhatLiesBetweenKeepsItsBytes) {
    std::array batch{poke(3, 103), poke(9, 109)};
    ASSERT_TRUE(poke_.commit(batch, Between::anything));
    EXPECT_EQ(writing_.writes, 1);
    for (std::size_t i = 4; i < 9; ++i) EXPECT_EQ(text[i], i);
}

TEST_F(TextPokeTest, NoWriteToRunningCodeIsLongerThanWhatIsCopiedWhole) {
    std::vector<Poke> batch;
    for (std::size_t i = 0; i < 64; ++i) batch.push_back(poke(i, 1000 + i));
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(writing_.writes, static_cast<int>(64 / words_together()));
    for (const std::size_t size : writing_.sizes) EXPECT_LE(size, arch::capabilities().copied_bytes);
}

TEST_F(TextPokeTest, WhatSharesACacheLineIsWrittenTogether) {
    if (words_together() == 1) GTEST_SKIP() << "the kernel's copy of more than a word is not whole on this machine";
    std::array batch{poke(8, 108), poke(15, 115), poke(16, 116 << 8)};
    batch[2].at = batch[2].at + 1;
    batch[2].expected = 0;
    batch[2].replacement = 7;
    batch[2].size = 2;
    ASSERT_TRUE(TextPoke::verify(batch));
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(writing_.writes, 2);
    for (std::size_t i = 9; i < 15; ++i) EXPECT_EQ(text[i], i);
    EXPECT_EQ(text[16], 16u + (7u << 8)) << "the rest of the word is left as it is";
}

// Two branches side by side: their bytes share a word.
TEST_F(TextPokeTest, TwoPokesMayShareAWord) {
    if (arch::capabilities().word_bytes != sizeof text[0]) GTEST_SKIP() << "instructions are words here";
    auto* bytes = reinterpret_cast<std::byte*>(text.data());
    std::fill_n(bytes, 16, std::byte{0});
    std::array batch{Poke{Address::of(bytes + 4), 0, 0x44332211, 0, 4}, Poke{Address::of(bytes + 1), 0, 0xbbaa, 1, 2}};
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(writing_.writes, 1);
    EXPECT_EQ(text[0], 0x44332211'00bbaa00u);
    std::array first{Poke{Address::of(bytes + 4), 0x44332211, 1, 0, 4}}, second{Poke{Address::of(bytes + 1), 0xbbaa, 2, 1, 2}};
    writing_.refuse_at = 3;
    EXPECT_FALSE(poke_.commit({first, second}, Between::line));
    EXPECT_EQ(text[0], 0x44332211'00bbaa00u) << "the other part is put back, too";
}

TEST_F(TextPokeTest, NoWriteCrossesAPage) {
    std::array batch{poke(511, 1), poke(512, 2)};
    ASSERT_TRUE(poke_.commit(batch, Between::anything));
    EXPECT_EQ(writing_.writes, 2);
}

TEST_F(TextPokeTest, ARefusalHalfWayPutsEverythingBack) {
    std::array batch{poke(1, 101), poke(100, 200), poke(300, 400), poke(600, 700)};
    writing_.refuse_at = 3;
    const auto done = poke_.commit(batch);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::text_not_writable);
    EXPECT_EQ(done.error().element, 300u);
    EXPECT_EQ(done.error().os_error, EIO);
    for (std::size_t i = 0; i < text.size(); ++i) EXPECT_EQ(text[i], i);
}

using TextPokeDeathTest = TextPokeTest;
TEST_F(TextPokeDeathTest, ARefusalToPutBackAborts) {
    class RefuseFromThird final : public TextWriting {
    public:
        TextWriter kind() const noexcept override { return TextWriter::none; }
        bool stores_words() const noexcept override { return false; }
        Result<void> write(Address, std::span<const std::byte>) noexcept override {
            if (++writes < 3) return {};
            return std::unexpected(Error{.code = Errc::text_not_writable});
        }
        void forget(AddressRange) noexcept override {}
        Result<void> adopt_in_child() noexcept override { return {}; }
        int writes = 0;
    } writing;
    std::array batch{poke(1, 101), poke(100, 200), poke(300, 400)};
    EXPECT_DEATH(static_cast<void>(TextPoke(writing).commit(batch)), "changed in part");
}

}  // namespace
}  // namespace dynfunc
