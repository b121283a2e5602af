// SPDX-License-Identifier: MIT
// What a call site and a branch site compile to, read back: one instruction, and no word about the library around it.
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>

#include <array>
#include <vector>

#include "disassembly.hpp"

namespace codegen {
int twice(int x) { return 2 * x; }
[[gnu::noinline, gnu::cold]] int rare(int x) { return 3 * x; }
DYNFUNC(direct, int(int), &twice);
DYNFUNC(off, void(int), nullptr);
DYNFUNC_STATIC_KEY_FALSE(key);
DYNFUNC_STATIC_KEY_FALSE(shifted);

// The site is so many bytes further on.
template <int bytes>
[[gnu::noinline]] bool shifted_by() {
    asm volatile(".skip %c0, 0x90" ::"i"(bytes));
    return static_branch_unlikely(shifted);
}
}  // namespace codegen

extern "C" [[gnu::noinline]] int codegen_site(int x) { return codegen::direct(x) + 1; }
extern "C" [[gnu::noinline]] int codegen_tail(int x) { return codegen::direct(x); }
extern "C" [[gnu::noinline]] int codegen_unlikely(int x) {
    if (static_branch_unlikely(codegen::key)) return codegen::rare(x);
    return x;
}
extern "C" [[gnu::noinline]] int codegen_likely(int x) {
    if (static_branch_likely(codegen::key)) return x;
    return codegen::rare(x);
}

namespace dynfunc {
namespace {

using namespace test;

Address trampoline_of(const char* name) {
    const auto info = find_function(name);
    return info && info->trampolines.size() == 1 ? info->trampolines[0].code : Address{};
}

TEST(CallSite, IsOneDirectCallOfFiveBytesToTheTrampoline) {
    int calls = 0;
    for (const auto& one : disassemble(Address::of(&codegen_site))) {
        if (!is_call(one)) continue;
        ++calls;
        EXPECT_EQ(one.info.length, 5) << one.text;
        EXPECT_TRUE(is_direct(one)) << one.text;
        const auto distance = trampoline_of("codegen::direct") - branch_target(one);
        EXPECT_TRUE(distance == 0 || distance == 8) << "8: behind a landing pad";
    }
    EXPECT_EQ(calls, 1);
}

TEST(CallSite, InTailPositionIsOneDirectJump) {
    const auto all = disassemble(Address::of(&codegen_tail));
    ASSERT_FALSE(all.empty());
    EXPECT_TRUE(is_jump(all.back()));
    EXPECT_EQ(branch_target(all.back()), trampoline_of("codegen::direct"));
    EXPECT_LE(all.size(), 2u) << "an endbr64 at most before it";
}

TEST(CallSite, TheTrampolineIsOneDirectJumpToTheTarget) {
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
    const auto all = disassemble(trampoline_of("codegen::direct"));
    ASSERT_EQ(all.size(), 1u);
    EXPECT_TRUE(is_jump(all[0]));
    EXPECT_EQ(all[0].info.length, 5);
    EXPECT_EQ(branch_target(all[0]), Address::of(&codegen::twice));
}

TEST(CallSite, TheTrampolineOfANullVoidFunctionIsOneReturn) {
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
    codegen::off(1);
    const auto all = disassemble(trampoline_of("codegen::off"));
    ASSERT_EQ(all.size(), 1u);
    EXPECT_TRUE(is_return(all[0]));
}

// The one site of codegen::key in `function`; where it leads is checked on the way.
const detail::BranchRecord* record_in(int (*function)(int)) {
    const auto code = reachable(Address::of(function), {Address::of(&codegen::rare)});
    const detail::BranchRecord* found = nullptr;
    const auto& key = reinterpret_cast<const detail::StaticKeyData&>(codegen::key).branch;
    for (const auto* record = key.sites; record != nullptr; record = record->next) {
        if (!code.contains(Address::of(&record->site) + record->site)) continue;
        EXPECT_EQ(found, nullptr) << "there are two";
        found = record;
    }
    return found;
}

void expect_branch(int (*function)(int), bool enabled, bool likely) {
    ASSERT_TRUE(update_all({codegen::key.to(enabled)}));
    const auto* record = record_in(function);
    ASSERT_NE(record, nullptr);
    const Address site = Address::of(&record->site) + record->site;
    EXPECT_LE(site.value % 8 + 5, 8u) << "not inside one aligned word";
    const auto one = decode(site);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->info.length, 5);
    const auto path = follow(Address::of(function), Address::of(&codegen::rare));
    if (enabled == likely) {
        EXPECT_TRUE(is_nop(*one)) << one->text;
        ASSERT_TRUE(is_return(path.back())) << text_of(path);
        EXPECT_TRUE(std::ranges::none_of(path, is_jump)) << "the expected side is not right behind the site\n" << text_of(path);
    } else {
        EXPECT_TRUE(is_jump(*one) && is_direct(*one)) << one->text;
        const auto& distance = record->targets[enabled ? 1 : 0];
        EXPECT_EQ(branch_target(*one), Address::of(&distance) + distance);
        EXPECT_EQ(branch_target(path.back()), Address::of(&codegen::rare)) << text_of(path);
    }
    for (const auto& step : path) {
        EXPECT_FALSE(names_memory(step)) << step.text << "\nin\n" << text_of(path);
        EXPECT_FALSE(moves_stack(step)) << step.text << "\nin\n" << text_of(path);
        EXPECT_FALSE(is_conditional(step)) << step.text << "\nin\n" << text_of(path);
    }
    EXPECT_EQ(function(5), enabled == likely ? 5 : 15);
}

TEST(BranchSite, IsOneNopWhereItFallsThroughAndOneJumpWhereItDoesNot) {
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text();
    for (const bool enabled : {false, true, false}) {
        SCOPED_TRACE(enabled ? "enabled" : "disabled");
        {
            SCOPED_TRACE("unlikely");
            expect_branch(&codegen_unlikely, enabled, false);
        }
        SCOPED_TRACE("likely");
        expect_branch(&codegen_likely, enabled, true);
    }
}

TEST(BranchSite, LiesInsideOneAlignedWordWhateverIsBeforeIt) {
    constexpr std::array functions{&codegen::shifted_by<0>, &codegen::shifted_by<1>, &codegen::shifted_by<2>,
                                   &codegen::shifted_by<3>, &codegen::shifted_by<4>, &codegen::shifted_by<5>,
                                   &codegen::shifted_by<6>, &codegen::shifted_by<7>};
    for (const bool enabled : {true, false}) {
        ASSERT_TRUE(update_all({codegen::shifted.to(enabled)}));
        for (const auto function : functions) EXPECT_EQ(function(), enabled);
    }
    std::size_t sites = 0;
    const auto& key = reinterpret_cast<const detail::StaticKeyData&>(codegen::shifted).branch;
    for (const auto* record = key.sites; record != nullptr; record = record->next, ++sites)
        EXPECT_LE((Address::of(&record->site) + record->site).value % 8 + 5, 8u);
    EXPECT_EQ(sites, functions.size());
}

}  // namespace
}  // namespace dynfunc
