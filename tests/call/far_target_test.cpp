// SPDX-License-Identifier: MIT
// Targets that no direct jump reaches.
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include "code_copy.hpp"

namespace far_target {
int near(int x) { return x; }
DYNFUNC(function, int(int), &near);
}  // namespace far_target

namespace dynfunc {
namespace {

class FarTarget : public testing::TestWithParam<std::ptrdiff_t> {};

TEST_P(FarTarget, IsReachedThroughTheSlotAndReported) {
    const test::CodeCopy code(&test::leaf<7>, Address::of(&test::leaf<7>) + GetParam(), 0);
    EXPECT_EQ(far_target::function(1), 1);
    const std::size_t private_pages = DYNFUNC_GENERIC_SITES ? 0 : objects().at(0).private_pages;
    ASSERT_TRUE(far_target::function.retarget(code.entry()));
    EXPECT_EQ(far_target::function(1), 23);
    if (!DYNFUNC_GENERIC_SITES) {
        EXPECT_GE(objects().at(0).private_pages, private_pages) << "what was written once stays this process's own";
    }
    const auto info = find_function("far_target::function");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->target, Address::of(code.entry()));
    if (capabilities().form == Form::patched) {
        EXPECT_EQ(info->form, Form::slot);
        EXPECT_STREQ(info->trampolines.at(0).reason, "the target is out of reach of a direct jump");
    }
    ASSERT_TRUE(far_target::function.retarget(&far_target::near));
    EXPECT_EQ(far_target::function(1), 1);
    EXPECT_EQ(find_function("far_target::function")->form, capabilities().form);
}

INSTANTIATE_TEST_SUITE_P(BothWays, FarTarget, testing::Values(std::ptrdiff_t{1} << 33, -(std::ptrdiff_t{1} << 33)),
                         [](const auto& param) { return param.param > 0 ? "Ahead" : "Behind"; });

}  // namespace
}  // namespace dynfunc
