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

TEST(Error, MessageLeavesOutWhatItDoesNotHave) {
    EXPECT_EQ((Error{.code = Errc::empty_batch}).message(), "the batch is empty");
}

TEST(Error, EveryCodeHasWordsOfItsOwn) {
    std::string previous;
    for (int code = 0; code <= static_cast<int>(Errc::sync_failed); ++code) {
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
