// SPDX-License-Identifier: MIT
// What happens when somebody else writes to a trampoline: a debugger's breakpoint, another patcher.
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include "os.hpp"
#include "text_writer.hpp"

namespace foreign_bytes {
int first(int) { return 1; }
int second(int) { return 2; }
DYNFUNC(a, int(int), &first);
DYNFUNC(b, int(int), &first);
DYNFUNC(c, int(int), &first);
}  // namespace foreign_bytes

namespace dynfunc {
namespace {

using namespace foreign_bytes;

class ForeignBytes : public testing::Test {
protected:
    void SetUp() override {
        if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
        if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << "the page is shared memory";
        EXPECT_EQ(a(0) + b(0) + c(0), 3);
        trampoline_ = find_function("foreign_bytes::b")->trampolines.at(0).code;
    }
    void write(std::span<const std::byte> bytes) {
        ASSERT_TRUE(writing_.write(trampoline_, bytes));
        ASSERT_EQ(os::sync_cores(), 0);
    }
    std::vector<std::byte> bytes() const {
        const auto* begin = trampoline_.as<const std::byte*>();
        return {begin, begin + 8};
    }

    ProcessMemoryWriting writing_;
    Address trampoline_;
};

TEST_F(ForeignBytes, RefuseTheUpdateAndNameTheAddress) {
    const auto before = bytes();
    auto breakpoint = before;
    breakpoint[0] = std::byte{0xcc};
    write(breakpoint);
    const auto done = b.retarget(&second);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::bytes_changed);
    EXPECT_EQ(done.error().address, trampoline_);
    EXPECT_EQ(b.target(), &first) << "the key must not run ahead of the text";
    EXPECT_EQ(bytes(), breakpoint) << "foreign bytes were overwritten";
    write(before);
    EXPECT_EQ(b(0), 1);
    ASSERT_TRUE(b.retarget(&second));
    EXPECT_EQ(b(0), 2);
    ASSERT_TRUE(b.retarget(&first));
}

TEST_F(ForeignBytes, RefuseAWholeBatchBeforeItsFirstWrite) {
    const auto before = bytes();
    auto breakpoint = before;
    breakpoint[0] = std::byte{0xcc};
    write(breakpoint);
    const auto done = retarget_all({a.to(&second), b.to(&second), c.to(&second)});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::bytes_changed);
    EXPECT_EQ(done.error().element, 1u);
    EXPECT_EQ(a(0), 1);
    EXPECT_EQ(c(0), 1);
    EXPECT_EQ(a.target(), &first);
    write(before);
    EXPECT_EQ(b(0), 1);
}

}  // namespace
}  // namespace dynfunc
