// SPDX-License-Identifier: MIT
// What a call site compiles to, read back with Zydis: one `call rel32`, and no word about the library around it.
#include <Zydis/Zydis.h>
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include <vector>

namespace codegen {
int twice(int x) { return 2 * x; }
DYNFUNC(direct, int(int), &twice);
DYNFUNC(off, void(int), nullptr);
}  // namespace codegen

extern "C" [[gnu::noinline]] int codegen_site(int x) { return codegen::direct(x) + 1; }
extern "C" [[gnu::noinline]] int codegen_tail(int x) { return codegen::direct(x); }

namespace dynfunc {
namespace {

std::vector<ZydisDisassembledInstruction> disassemble(Address at) {
    std::vector<ZydisDisassembledInstruction> all;
    for (;;) {
        ZydisDisassembledInstruction one;
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, at.value, at.as<const void*>(), 16, &one))) break;
        all.push_back(one);
        at = at + one.info.length;
        const auto mnemonic = one.info.mnemonic;
        if (mnemonic == ZYDIS_MNEMONIC_RET || mnemonic == ZYDIS_MNEMONIC_JMP || all.size() > 40) break;
    }
    return all;
}

Address branch_target(const ZydisDisassembledInstruction& one) {
    ZyanU64 target = 0;
    ZydisCalcAbsoluteAddress(&one.info, &one.operands[0], one.runtime_address, &target);
    return Address{static_cast<std::uintptr_t>(target)};
}

Address trampoline_of(const char* name) {
    const auto info = find_function(name);
    return info && info->trampolines.size() == 1 ? info->trampolines[0].code : Address{};
}

TEST(CallSite, IsOneDirectCallOfFiveBytesToTheTrampoline) {
    int calls = 0;
    for (const auto& one : disassemble(Address::of(&codegen_site))) {
        if (one.info.mnemonic != ZYDIS_MNEMONIC_CALL) continue;
        ++calls;
        EXPECT_EQ(one.info.length, 5) << one.text;
        EXPECT_EQ(one.operands[0].type, ZYDIS_OPERAND_TYPE_IMMEDIATE) << one.text;
        const auto distance = trampoline_of("codegen::direct") - branch_target(one);
        EXPECT_TRUE(distance == 0 || distance == 8) << "8: behind a landing pad";
    }
    EXPECT_EQ(calls, 1);
}

TEST(CallSite, InTailPositionIsOneDirectJump) {
    const auto all = disassemble(Address::of(&codegen_tail));
    ASSERT_FALSE(all.empty());
    EXPECT_EQ(all.back().info.mnemonic, ZYDIS_MNEMONIC_JMP);
    EXPECT_EQ(branch_target(all.back()), trampoline_of("codegen::direct"));
    EXPECT_LE(all.size(), 2u) << "an endbr64 at most before it";
}

TEST(CallSite, TheTrampolineIsOneDirectJumpToTheTarget) {
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
    const auto all = disassemble(trampoline_of("codegen::direct"));
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].info.mnemonic, ZYDIS_MNEMONIC_JMP);
    EXPECT_EQ(all[0].info.length, 5);
    EXPECT_EQ(branch_target(all[0]), Address::of(&codegen::twice));
}

TEST(CallSite, TheTrampolineOfANullVoidFunctionIsOneReturn) {
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
    codegen::off(1);
    const auto all = disassemble(trampoline_of("codegen::off"));
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].info.mnemonic, ZYDIS_MNEMONIC_RET);
}

}  // namespace
}  // namespace dynfunc
