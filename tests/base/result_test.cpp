// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <dynfunc/result.hpp>

#include <cerrno>

namespace dynfunc {
namespace {

TEST(Error, MessageNamesCauseAddressElementAndErrno) {
    const Error error{.code = Errc::text_not_writable, .address = Address{0xabc0}, .os_error = EACCES, .element = 3};
    EXPECT_EQ(error.message(),
              "the system refuses to let this code be written at 0xabc0, element 3 of the batch: Permission denied (errno 13)");
}

TEST(Error, MessageShowsWhatStandsThere) {
    Error error{.code = Errc::middle_of_instruction, .address = Address{0xabc0}};
    error.code_bytes = {std::byte{0x0f}, std::byte{0xa}};
    error.code_size = 2;
    EXPECT_EQ(error.message(), "it is the middle of an instruction at 0xabc0, where there is 0f 0a");
}

TEST(Error, MessageLeavesOutWhatItDoesNotHave) {
    EXPECT_EQ((Error{.code = Errc::empty_batch}).message(), "the batch is empty");
}

TEST(Error, EveryCodeHasWordsOfItsOwn) {
    std::string previous;
    for (int code = 0; code <= static_cast<int>(Errc::elf_segments); ++code) {
        const std::string text = Error{.code = static_cast<Errc>(code)}.message();
        EXPECT_NE(text, "unknown error");
        EXPECT_NE(text, previous);
        previous = text;
    }
}

TEST(AddressRange, HoldsItsBeginAndNotItsEnd) {
    const AddressRange range{Address{16}, Address{32}};
    EXPECT_TRUE(range.contains(Address{16}));
    EXPECT_TRUE(range.contains(Address{31}));
    EXPECT_FALSE(range.contains(Address{32}));
    EXPECT_FALSE(range.contains(Address{15}));
    EXPECT_EQ(range.size(), 16u);
}

}  // namespace
}  // namespace dynfunc
