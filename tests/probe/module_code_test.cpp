// SPDX-License-Identifier: MIT
// What is known of the code of this process: of functions whose bytes are known, and of the libraries that everybody has.
#include "module_code.hpp"

#include <gnu/libc-version.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory_resource>
#include <string>

#include "arch.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

TEST(ModuleCode, RefusesWhatIsNoCodeOfAnObject) {
    int on_stack = 0;
    const auto refused = ModuleCode::of(&on_stack);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::no_unwind_table);
    EXPECT_EQ(refused.error().address, Address::of(&on_stack));
}

TEST(ModuleCode, FunctionsAscendAndHoldWhatTheyShould) {
    const auto code = ModuleCode::of(Address::of(&gnu_get_libc_version).as<const void*>());
    ASSERT_TRUE(code) << code.error().message();
    if (code->site(Address::of(&gnu_get_libc_version)).code.empty() && !arch::capabilities().patches_text)
        GTEST_SKIP() << "the C library of this machine has no unwind information of what is written in C";
    const auto& functions = code->functions();
    EXPECT_GT(functions.size(), 1000u);
    for (std::size_t i = 1; i < functions.size(); ++i) ASSERT_LE(functions[i - 1].end, functions[i].begin);
    for (const Address known : {Address::of(&gnu_get_libc_version), Address::of(&gnu_get_libc_release)}) {
        if (!code->site(known).code.empty()) continue;
        ADD_FAILURE() << std::hex << known.value;
    }
    EXPECT_TRUE(code->site(functions.front().begin - 1).code.empty());
}

#if defined(__x86_64__)
extern "C" const char module_code_loop[], module_code_loop_head[], module_code_short[], module_code_begin[],
    module_code_guarded_begin[], module_code_guarded[];
asm(R"(
    .pushsection .text.module_code, "ax", @progbits
    .p2align 4
    .globl module_code_loop
    .type module_code_loop, @function
module_code_loop:
    .cfi_startproc
    xor %eax, %eax
    .globl module_code_loop_head
module_code_loop_head:
    inc %eax
    dec %edi
    jnz module_code_loop_head
    jmp module_code_short
    .cfi_endproc
    .size module_code_loop, . - module_code_loop
    .p2align 4
    .globl module_code_short
    .type module_code_short, @function
module_code_short:
    .cfi_startproc
    ret
    .cfi_endproc
    .size module_code_short, . - module_code_short
    .p2align 4
    .globl module_code_begin
    .type module_code_begin, @function
module_code_begin:
    .cfi_startproc
    .cfi_undefined rip
    hlt
    .cfi_endproc
    .size module_code_begin, . - module_code_begin
    .p2align 4
    .globl module_code_guarded_begin
    .type module_code_guarded_begin, @function
module_code_guarded_begin:
    .cfi_startproc
    endbr64
    .cfi_undefined rip
    hlt
    .cfi_endproc
    .size module_code_guarded_begin, . - module_code_guarded_begin
    .p2align 4
    .globl module_code_guarded
    .type module_code_guarded, @function
module_code_guarded:
    .cfi_startproc
    endbr64
    .cfi_undefined rbx
    push %rbx
    .cfi_adjust_cfa_offset 8
    ud2
    .cfi_endproc
    .size module_code_guarded, . - module_code_guarded
    .p2align 4
    .popsection
)");

TEST(ModuleCode, KnowsWhereBranchesLeadAndWhatIsPadding) {
    if (!arch::has_decoder()) GTEST_SKIP() << "built without a decoder";
    const auto code = ModuleCode::of(module_code_loop);
    ASSERT_TRUE(code);
    const auto loop = code->site(Address::of(module_code_loop));
    EXPECT_EQ(loop.branches_to & 0xff, 1u << (module_code_loop_head - module_code_loop));
    EXPECT_EQ(arch::plan_jump(arch::JumpForm::guarded, loop).error().code, Errc::branch_inside);
    EXPECT_TRUE(arch::plan_jump(arch::JumpForm::punned, loop));
    const auto ret = code->site(Address::of(module_code_short));
    EXPECT_EQ(ret.branches_to & 0xff, 1u);
    EXPECT_EQ(ret.code.size(), 1u);
    EXPECT_GE(ret.free_behind, 15u);
    EXPECT_TRUE(arch::plan_jump(arch::JumpForm::guarded, ret));
    // Inside a function: up to its end.
    EXPECT_EQ(code->site(Address::of(module_code_loop_head)).code.size(), loop.code.size() - 2);
}
// What a thread or a program begins with says that it returns nowhere: at its first instruction, or behind a landing pad.
TEST(ModuleCode, KnowsWhatIsCalled) {
    if (!arch::capabilities().patches_text) GTEST_SKIP() << "this build moves no instructions";
    const auto code = ModuleCode::of(module_code_loop);
    ASSERT_TRUE(code);
    EXPECT_TRUE(code->is_called(Address::of(module_code_loop)));
    EXPECT_FALSE(code->is_called(Address::of(module_code_loop_head)));
    EXPECT_FALSE(code->is_called(Address::of(module_code_begin)));
    EXPECT_FALSE(code->is_called(Address::of(module_code_guarded_begin)));
    EXPECT_TRUE(code->is_called(Address::of(module_code_guarded)));
}
#endif

// The libraries that this process has anyway: how many of their functions take a jump.
TEST(ModuleCode, NearlyEveryFunctionTakesAJump) {
    if (!arch::capabilities().patches_text || (arch::capabilities().word_bytes == 8 && !arch::has_decoder()))
        GTEST_SKIP() << "this build moves no instructions";
    const std::pair<const char*, const void*> objects[] = {
        {"libc", Address::of(&gnu_get_libc_version).as<const void*>()},
        {"libstdc++", Address::of(&std::pmr::new_delete_resource).as<const void*>()},
        {"this program", Address::of(&arch::capabilities).as<const void*>()},
    };
    for (const auto& [name, inside] : objects) {
        const auto code = ModuleCode::of(inside);
        ASSERT_TRUE(code) << name;
        std::map<std::string, std::size_t> forms;
        std::size_t taken = 0;
        for (const AddressRange function : code->functions()) {
            const auto site = code->site(function.begin);
            ASSERT_EQ(site.code.size(), function.size());
            constexpr std::pair<arch::JumpForm, const char*> all[] = {
                {arch::JumpForm::whole, "whole"}, {arch::JumpForm::guarded, "guarded"}, {arch::JumpForm::punned, "punned"}};
            std::string found;
            Error error;
            for (const auto& [form, form_name] : all) {
                const auto plan = arch::plan_jump(form, site);
                if (!plan) {
                    error = plan.error();
                    continue;
                }
                found = form_name;
                break;
            }
            if (!found.empty()) ++taken;
            ++forms[found.empty() ? "refused: " + error.message().substr(0, error.message().find(" at 0x")) : found];
        }
        const double share = 100.0 * static_cast<double>(taken) / static_cast<double>(code->functions().size());
        std::printf("%s: %zu functions, %.2f %% take a jump\n", name, code->functions().size(), share);
        for (const auto& [form, count] : forms) std::printf("    %6zu %s\n", count, form.c_str());
        // A sanitizer's own memory lies where some of the jumps would lead whose distances are given by what they must not
        // change.
        const double least = test::address_sanitizer ? 98 : 99.9;
        EXPECT_GE(share, least) << name;
    }
}

}  // namespace
}  // namespace dynfunc
