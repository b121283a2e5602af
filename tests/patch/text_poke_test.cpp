// SPDX-License-Identifier: MIT
#include "text_poke.hpp"

#include <gtest/gtest.h>

#include "arch.hpp"
#include "os.hpp"

#include <array>
#include <cstring>

namespace dynfunc {
namespace {

// Stands for text; the writer below stands for the system and refuses when it is told to.
alignas(4096) std::array<std::uint64_t, 1024> text{};

class FakeWriting final : public TextWriting {
public:
    TextWriter kind() const noexcept override { return TextWriter::none; }
    Result<void> write(Address at, std::span<const std::byte> bytes) noexcept override {
        ++writes;
        if (writes == refuse_at) return std::unexpected(Error{.code = Errc::text_not_writable, .address = at, .os_error = EIO});
        std::memcpy(at.as<void*>(), bytes.data(), bytes.size());
        return {};
    }
    bool stores_fields_at_once() const noexcept override { return true; }
    void forget(AddressRange) noexcept override {}
    Result<void> adopt_in_child() noexcept override { return {}; }

    int writes = 0;
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
    // Elements of `text` touch; where a machine's words are narrower, bytes of something else lie between them.
    static bool elements_touch() { return arch::capabilities().word_bytes == sizeof text[0]; }
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

TEST_F(TextPokeTest, CommitSortsAndWritesNeighboursTogether) {
    std::array batch{poke(9, 109), poke(3, 103), poke(4, 104)};
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(text[3], 103u);
    EXPECT_EQ(text[4], 104u);
    EXPECT_EQ(text[9], 109u);
    EXPECT_EQ(text[5], 5u);
    EXPECT_EQ(writing_.writes, elements_touch() ? 2 : 3);
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

TEST_F(TextPokeTest, OnlyTwoWordsOfOwnTextHaveOwnTextBetween) {
    std::array batch{poke(3, 103), poke(9, 109), poke(15, 115)};
    batch[0].in_own_text = batch[1].in_own_text = true;
    ASSERT_TRUE(poke_.commit(batch));
    EXPECT_EQ(writing_.writes, 2);
    for (std::size_t i = 4; i < 9; ++i) EXPECT_EQ(text[i], i);
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
        Result<void> write(Address, std::span<const std::byte>) noexcept override {
            if (++writes < 3) return {};
            return std::unexpected(Error{.code = Errc::text_not_writable});
        }
        bool stores_fields_at_once() const noexcept override { return true; }
        void forget(AddressRange) noexcept override {}
        Result<void> adopt_in_child() noexcept override { return {}; }
        int writes = 0;
    } writing;
    std::array batch{poke(1, 101), poke(100, 200), poke(300, 400)};
    EXPECT_DEATH(static_cast<void>(TextPoke(writing).commit(batch)), "changed in part");
}

}  // namespace
}  // namespace dynfunc
