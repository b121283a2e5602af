// SPDX-License-Identifier: MIT
// Which bytes of a jump are given by what stands there, and what no jump can replace.
#include "jump_plan.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace dynfunc::arch {
namespace {

constexpr Address home{0x5555'5000'0000};
using Bytes = std::vector<std::uint8_t>;

Result<JumpPlan> plan(JumpForm form, const Bytes& code, std::uint32_t branches_to = 0, std::size_t free_behind = 0) {
    return plan_jump(
        form, {.at = home, .code = std::as_bytes(std::span(code)), .free_behind = free_behind, .branches_to = branches_to});
}
Error refusal(JumpForm form, const Bytes& code, std::uint32_t branches_to = 0, std::size_t free_behind = 0) {
    const auto planned = plan(form, code, branches_to, free_behind);
    EXPECT_FALSE(planned);
    return planned ? Error{} : planned.error();
}

const Bytes push_mov{0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x90, 0x90};  // boundaries at 1, 4, 6
const Bytes sub_call{0x48, 0x83, 0xec, 0x08, 0xe8, 1, 2, 3, 4, 0x90};  // at 4, 9
const Bytes long_mov{0x48, 0xc7, 0xc0, 1, 0, 0, 0, 0xc3};              // mov $1,%rax; ret
const Bytes call_register{0x90, 0xff, 0xd0, 0x90, 0x90, 0x90};         // nop; call *%rax; nops

TEST(JumpPlan, OneLongInstructionGivesNothing) {
    const auto planned = plan(JumpForm::whole, long_mov);
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->displaced.count, 1);
    EXPECT_EQ(planned->displaced.size(), 7u);
    EXPECT_EQ(planned->written, 5);
    EXPECT_EQ(planned->given_mask, 0u);
    EXPECT_EQ(refusal(JumpForm::whole, push_mov).code, Errc::too_short);
}

TEST(JumpPlan, InnerBoundariesAreBreakpoints) {
    const auto planned = plan(JumpForm::guarded, push_mov);
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->displaced.count, 3);
    EXPECT_EQ(planned->written, 5);
    EXPECT_EQ(planned->given_mask, 0xff00'00ffu) << "bytes 1 and 4 of the jump, 0 and 3 of its distance";
    EXPECT_EQ(planned->given, 0xcc00'00ccu);
    const auto with_call = plan(JumpForm::guarded, sub_call);
    ASSERT_TRUE(with_call);
    EXPECT_EQ(with_call->displaced.calls, 0b10);
    EXPECT_EQ(with_call->given_mask, 0xff00'0000u);
    EXPECT_EQ(with_call->given, 0xcc00'0000u);
}

TEST(JumpPlan, APunKeepsItsSuccessors) {
    const auto planned = plan(JumpForm::punned, push_mov);
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->displaced.count, 1);
    EXPECT_EQ(planned->written, 1);
    EXPECT_EQ(planned->given_mask, 0xffff'ffffu);
    EXPECT_EQ(planned->given, 0x41e5'8948u);
    const auto four = plan(JumpForm::punned, sub_call);
    ASSERT_TRUE(four);
    EXPECT_EQ(four->written, 4);
    EXPECT_EQ(four->given_mask, 0xff00'0000u);
    EXPECT_EQ(four->given, 0xe800'0000u);
    const auto whole = plan(JumpForm::punned, long_mov);
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->given_mask, 0u);
}

TEST(JumpPlan, ABranchInsideIsRefusedWithItsPlace) {
    for (std::uint32_t k = 1; k < 6; ++k) {
        const Error error = refusal(JumpForm::guarded, push_mov, 1u << k);
        EXPECT_EQ(error.code, Errc::branch_inside);
        EXPECT_EQ(error.address, home + static_cast<std::ptrdiff_t>(k));
    }
    EXPECT_TRUE(plan(JumpForm::guarded, push_mov, 1u << 6)) << "behind what is displaced";
    EXPECT_TRUE(plan(JumpForm::guarded, push_mov, 1u)) << "to the site itself";
    EXPECT_TRUE(plan(JumpForm::punned, push_mov, 1u << 1)) << "to the successor, which stays";
    EXPECT_EQ(refusal(JumpForm::whole, long_mov, 1u << 3).code, Errc::branch_inside);
}

TEST(JumpPlan, ACallThatComesBackInsideIsRefused) {
    const Error error = refusal(JumpForm::guarded, call_register);
    EXPECT_EQ(error.code, Errc::call_inside);
    EXPECT_EQ(error.address, home + 1);
    const Bytes call_first{0xff, 0xd0, 0x90, 0x90, 0x90, 0x90};
    EXPECT_EQ(refusal(JumpForm::guarded, call_first).code, Errc::call_inside);
    EXPECT_TRUE(plan(JumpForm::punned, call_first)) << "the callee comes back behind it, where nothing changes";
}

TEST(JumpPlan, AShortFunctionNeedsRoomBehindIt) {
    const Bytes ret{0xc3};
    EXPECT_EQ(refusal(JumpForm::guarded, ret).code, Errc::too_short);
    EXPECT_EQ(refusal(JumpForm::guarded, ret, 0, 3).code, Errc::too_short);
    const auto planned = plan(JumpForm::guarded, ret, 0, 4);
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->given_mask, 0u) << "behind a return nobody resumes";
    EXPECT_FALSE(planned->displaced.goes_on);
    const Bytes jump_and_more{0xeb, 0x02, 0x90, 0x90, 0xc3, 0x90};
    EXPECT_EQ(refusal(JumpForm::guarded, jump_and_more, 0, 16).code, Errc::too_short) << "other code of the function follows";
    EXPECT_EQ(refusal(JumpForm::punned, ret, 0, 16).code, Errc::too_short);
}

TEST(JumpPlan, WhatCannotMoveIsRefused) {
    const Bytes eip{0x67, 0x8b, 0x05, 1, 2, 3, 4};
    for (const JumpForm form : {JumpForm::whole, JumpForm::guarded, JumpForm::punned}) {
        EXPECT_EQ(refusal(form, eip).code, Errc::not_movable);
        EXPECT_EQ(refusal(form, {0x06, 0x90, 0x90, 0x90, 0x90}).code, Errc::not_an_instruction);
    }
}

TEST(JumpPlan, RandomCodeIsPlannedOrRefused) {
    std::mt19937_64 random(6);
    std::size_t planned_forms[3] = {};
    for (int round = 0; round < 200'000; ++round) {
        Bytes code(1 + random() % 24);
        for (auto& byte : code) byte = static_cast<std::uint8_t>(random());
        const auto branches = static_cast<std::uint32_t>(random() & random() & random());
        for (const JumpForm form : {JumpForm::whole, JumpForm::guarded, JumpForm::punned}) {
            const auto planned = plan(form, code, branches, random() % 8);
            if (!planned) {
                EXPECT_TRUE(planned.error().address) << "every refusal says where";
                continue;
            }
            ++planned_forms[static_cast<std::size_t>(form)];
            ASSERT_EQ(planned->given & ~planned->given_mask, 0u);
            ASSERT_LE(planned->written, 5);
            // The jump as it will stand there: each inner boundary a breakpoint, or the byte that stood there before.
            for (std::size_t i = 1; i < planned->displaced.count; ++i) {
                const std::size_t boundary = planned->displaced.begins[i];
                if (boundary >= 5) continue;
                ASSERT_EQ(planned->given_mask >> (8 * (boundary - 1)) & 0xff, 0xffu);
                ASSERT_EQ(planned->given >> (8 * (boundary - 1)) & 0xff, 0xccu);
            }
        }
    }
    for (const std::size_t count : planned_forms) EXPECT_GT(count, 1000u);
}

}  // namespace
}  // namespace dynfunc::arch
