// SPDX-License-Identifier: MIT
// What a tracepoint compiles to, and what the library makes of it: nothing while nobody listens, direct calls and jumps up to
// every callback while somebody does.
#include <gtest/gtest.h>
#include <dynfunc/introspect.hpp>
#include <dynfunc/tracepoint.hpp>

#include <array>
#include <cstdint>
#include <vector>

#include "disassembly.hpp"

namespace traced {
DYNFUNC_TRACEPOINT(event, void(std::uint64_t key, std::size_t bytes));
std::uint64_t calls = 0;
[[gnu::noinline]] std::size_t expensive(std::uint64_t key) { return ++calls + key; }
// Weak, so that the compiler cannot know which registers it leaves alone.
[[gnu::weak]] std::uint64_t work(std::uint64_t key) { return 3 * key; }
}  // namespace traced

// Pairs of the same function with a tracepoint and without.
extern "C" {
[[gnu::noinline]] void traced_only(std::uint64_t key, std::size_t bytes) { DYNFUNC_TRACE(traced::event, key, bytes); }
[[gnu::noinline]] void traced_constant(std::uint64_t key) { DYNFUNC_TRACE(traced::event, key, 4096); }
[[gnu::noinline]] void traced_computed(const std::uint64_t* key) { DYNFUNC_TRACE(traced::event, *key, 3 * key[1]); }
[[gnu::noinline]] void traced_expensive(std::uint64_t key) { DYNFUNC_TRACE(traced::event, key, traced::expensive(key)); }

[[gnu::noinline]] void traced_store(std::uint64_t key, std::size_t bytes, std::uint64_t* to) {
    *to = key;
    DYNFUNC_TRACE(traced::event, key, bytes);
}
[[gnu::noinline]] void plain_store(std::uint64_t key, std::size_t, std::uint64_t* to) { *to = key; }

[[gnu::noinline]] std::uint64_t traced_before_work(std::uint64_t key) {
    DYNFUNC_TRACE(traced::event, key, 1);
    return traced::work(key) + key;
}
[[gnu::noinline]] std::uint64_t plain_work(std::uint64_t key) { return traced::work(key) + key; }
}

namespace dynfunc {
namespace {

using namespace test;

std::vector<std::pair<int, std::uint64_t>> heard;

void first(std::uint64_t key, std::size_t) { heard.emplace_back(1, key); }
void second(std::uint64_t key, std::size_t) { heard.emplace_back(2, key); }
void third(std::uint64_t key, std::size_t) { heard.emplace_back(3, key); }
void fourth(std::uint64_t key, std::size_t, void* data) { heard.emplace_back(*static_cast<int*>(data), key); }
void fifth(std::uint64_t key, std::size_t, void* data) { heard.emplace_back(*static_cast<int*>(data), key); }

#define SKIP_UNLESS_PATCHED() \
    if (capabilities().form != Form::patched) GTEST_SKIP() << capabilities().text()

detail::TracepointKey& key() { return traced::event.key(); }

// Where events leave this executable's sites for the callbacks, and `deliver` for them.
Address trampoline_of(const detail::Jump& jump) {
    EXPECT_TRUE(jump.trampolines != nullptr && jump.trampolines->next == nullptr);
    return Address::of(jump.trampolines->code);
}
// Sites call the start of the trampoline: a landing pad before the code, where there is one.
Address start_of(Address code) { return is_landing_pad(*decode(code - 8)) ? code - 8 : code; }

bool is_site(const Instruction& one) {
    for (const auto* record = key().branch.sites; record != nullptr; record = record->next)
        if (Address::of(&record->site) + record->site == address_of(one)) return true;
    return false;
}

// Without what may stand before a site, and without the site.
std::vector<Instruction> without_site(Address function) {
    std::vector<Instruction> rest;
    int sites = 0;
    for (const auto& one : follow_over_calls(function)) {
        if (is_site(one)) {
            ++sites;
            EXPECT_TRUE(is_nop(one) && one.info.length == 5) << one.text;
        } else if (!is_nop(one) && !is_landing_pad(one)) {
            rest.push_back(one);
        }
    }
    EXPECT_EQ(sites, 1);
    return rest;
}

TEST(TraceSite, OffIsANopAndNothingElse) {
    SKIP_UNLESS_PATCHED();
    for (const Address function : {Address::of(&traced_only), Address::of(&traced_constant), Address::of(&traced_computed)}) {
        const auto rest = without_site(function);
        ASSERT_EQ(rest.size(), 1u) << text_of(rest);
        EXPECT_TRUE(is_return(rest[0])) << text_of(rest);
    }
}

TEST(TraceSite, OffDoesNotEvaluateItsArguments) {
    SKIP_UNLESS_PATCHED();
    for (const auto& one : without_site(Address::of(&traced_expensive))) {
        EXPECT_FALSE(is_call(one) || is_conditional(one) || names_memory(one)) << one.text;
    }
    traced::calls = 0;
    traced_expensive(1);
    EXPECT_EQ(traced::calls, 0u);
}

TEST(TraceSite, OffAtTheEndLeavesTheFunctionAsItIs) {
    SKIP_UNLESS_PATCHED();
    std::vector<Instruction> plain;
    for (const auto& one : follow_over_calls(Address::of(&plain_store)))
        if (!is_landing_pad(one)) plain.push_back(one);
    EXPECT_EQ(text_of(without_site(Address::of(&traced_store))), text_of(plain));
}

// Where the function calls something anyway, no register more is saved, and no frame made.
TEST(TraceSite, OffInAFunctionThatCallsCostsItNoFrame) {
    SKIP_UNLESS_PATCHED();
    const auto frame_of = [](const std::vector<Instruction>& path) {
        std::string text;
        for (const auto& one : path)
            if (moves_stack(one)) text += std::string(one.text) + '\n';
        return text;
    };
    EXPECT_EQ(frame_of(without_site(Address::of(&traced_before_work))), frame_of(follow_over_calls(Address::of(&plain_work))));
}

// Whether one of the branches leads past its trampoline.
bool has_patched_call(const std::vector<Instruction>& path) {
    const auto sites = call_sites("traced::event");
    return std::any_of(path.begin(), path.end(), [&](const Instruction& one) {
        return std::any_of(sites.begin(), sites.end(), [&](const CallSiteInfo& site) {
            return site.patched && address_of(one) < site.field && site.field < behind(one);
        });
    });
}

// From the site to `callback` a thread meets direct branches alone, and names no memory. Patched, the call does not go through
// the trampoline.
void expect_direct_path(Address function, Address callback) {
    const auto path = follow(function, callback);
    const std::string text = text_of(path);
    ASSERT_FALSE(path.empty());
    EXPECT_EQ(branch_target(path.back()), callback) << text;
    bool at_site = false;
    int at_trampoline = 0;
    for (const auto& one : path) {
        if (is_site(one)) {
            at_site = true;
            EXPECT_TRUE(is_jump(one) && one.info.length == 5) << text;
        }
        if (address_of(one) == trampoline_of(key().outer)) {
            ++at_trampoline;
            EXPECT_TRUE(is_jump(one) && one.info.length == 5) << text;
        }
        if (!at_site) continue;
        EXPECT_FALSE(names_memory(one)) << one.text << "\nin\n" << text;
        EXPECT_FALSE(is_indirect_branch(one)) << one.text << "\nin\n" << text;
        EXPECT_FALSE(is_conditional(one)) << one.text << "\nin\n" << text;
    }
    EXPECT_TRUE(at_site) << text;
    EXPECT_EQ(at_trampoline, has_patched_call(path) ? 0 : 1) << text;
}

TEST(TraceSite, WithOneStaticFunctionJumpsAndCallsDirectlyToIt) {
    SKIP_UNLESS_PATCHED();
    auto subscription = traced::event.attach(&first, {.static_lifetime = true});
    ASSERT_TRUE(subscription);
    expect_direct_path(Address::of(&traced_only), Address::of(&first));
    expect_direct_path(Address::of(&traced_before_work), Address::of(&first));
    EXPECT_EQ(find_tracepoint("traced::event")->delivery, Delivery::direct);
    heard.clear();
    traced_only(7, 8);
    EXPECT_EQ(heard, (decltype(heard){{1, 7}}));
    ASSERT_TRUE(subscription->detach());
}

// The inner trampoline, and what it leads to: each callee in turn, by direct branches.
std::vector<Address> callees_of_chain() {
    const auto trampoline = decode(trampoline_of(key().inner));
    EXPECT_TRUE(trampoline && is_jump(*trampoline) && trampoline->info.length == 5);
    const Address chain = branch_target(*trampoline);
    EXPECT_EQ(Address::of(key().inner.target), chain);
    std::vector<Address> callees;
    for (const auto& one : disassemble(chain)) {
        EXPECT_FALSE(is_indirect_branch(one)) << one.text;
        EXPECT_FALSE(is_conditional(one)) << one.text;
        if (is_call(one) || is_jump(one)) callees.push_back(branch_target(one));
    }
    return callees;
}

// `deliver` leads to the inner trampoline or straight to where that leads, and has no indirect branch on any of its ways.
void expect_direct_delivery() {
    const Address deliver = Address::of(key().function(detail::TraceFunction::deliver));
    const Address inner = start_of(trampoline_of(key().inner)), target = Address::of(key().inner.target);
    expect_direct_path(Address::of(&traced_only), deliver);
    int calls = 0;
    for (const auto& [at, one] : reachable(deliver, {inner, target})) {
        EXPECT_FALSE(is_indirect_branch(one)) << one.text;
        if ((is_call(one) || is_jump(one)) && is_direct(one) && (branch_target(one) == inner || branch_target(one) == target))
            ++calls;
    }
    EXPECT_GE(calls, 1);
}

TEST(TraceSite, WithOneOrdinaryFunctionTheTrampolineJumpsToIt) {
    SKIP_UNLESS_PATCHED();
    auto subscription = traced::event.attach(&second);
    ASSERT_TRUE(subscription);
    expect_direct_delivery();
    const auto trampoline = decode(trampoline_of(key().inner));
    ASSERT_TRUE(trampoline && is_jump(*trampoline));
    EXPECT_EQ(branch_target(*trampoline), Address::of(&second));
    ASSERT_TRUE(subscription->detach());
}

TEST(TraceSite, WithSeveralCallbacksCallsThemDirectlyInTheirOrder) {
    SKIP_UNLESS_PATCHED();
    int four = 4, five = 5;
    auto a = traced::event.attach(&first, {.priority = 1, .static_lifetime = true});
    auto b = traced::event.attach(&second, {.priority = 2});
    ASSERT_TRUE(a && b);
    expect_direct_delivery();
    EXPECT_EQ(callees_of_chain(), (std::vector{Address::of(&second), Address::of(&first)}));
    EXPECT_EQ(find_tracepoint("traced::event")->delivery, Delivery::generated);

    auto c = traced::event.attach(&third, {.count_hits = true});
    auto d = traced::event.attach(&fourth, &four, {.priority = 3});
    auto e = traced::event.attach(&fifth, &five, {.priority = 1});
    ASSERT_TRUE(c && d && e);
    expect_direct_delivery();
    EXPECT_EQ(callees_of_chain(), (std::vector{Address::of(&fourth), Address::of(&second), Address::of(&first),
                                               Address::of(&fifth), Address::of(&third)}));
    heard.clear();
    traced_only(7, 8);
    EXPECT_EQ(heard, (decltype(heard){{4, 7}, {2, 7}, {1, 7}, {5, 7}, {3, 7}}));
    EXPECT_EQ(c->hits(), 1u);

    for (auto* each : {&a, &b, &c, &d, &e}) ASSERT_TRUE((*each)->detach());
    const auto rest = without_site(Address::of(&traced_only));
    EXPECT_EQ(rest.size(), 1u) << "off again: " << text_of(rest);
}

}  // namespace
}  // namespace dynfunc
