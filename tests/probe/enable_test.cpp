// SPDX-License-Identifier: MIT
// Probes that are attached and disabled: of every class, beside others, in batches, refused, from handlers, in children.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>
#include <dynfunc/capabilities.hpp>
#include <dynfunc/return_probe.hpp>
#include <dynfunc/typed_probe.hpp>

#include <optional>
#include <thread>
#include <vector>

#include "child.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc {
namespace {

using test::Counter;
using test::Victim;
using test::victim_kinds;
using test::VictimKind;

constexpr AllowBreakpoint if_needed = AllowBreakpoint::if_needed;

class Enable : public testing::Test {
protected:
    void SetUp() override {
        Counter counter;
        if (const auto probe = Probe::attach(victim_kinds[0].at[0], counter.options(if_needed)); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
    static Probe attach(const ProbeTarget& target, Counter& counter, bool is_enabled, AllowBreakpoint breakpoint = if_needed) {
        ProbeOptions options = counter.options(breakpoint);
        options.is_enabled = is_enabled;
        auto probe = Probe::attach(target, options);
        EXPECT_TRUE(probe) << probe.error().message();
        return probe ? std::move(*probe) : Probe();
    }
    static bool is_right(Victim function) { return function(20, 3, 0) == test::victim_result(20, 3); }
    static auto code_of(Victim function) { return test::code_at(Address::of(function)); }

    const test::KeepTraps keep_;
};

class EnableEachKind : public Enable, public testing::WithParamInterface<std::size_t> {};

TEST_P(EnableEachKind, OnlyWhoIsEnabledIsHit) {
    const VictimKind& kind = victim_kinds[GetParam()];
    for (Victim function : kind.at) {
        const auto linked = code_of(function);
        Counter counter;
        Probe probe = attach(function, counter, false, kind.breakpoint);
        ASSERT_TRUE(probe);
        EXPECT_FALSE(probe.is_enabled());
        EXPECT_EQ(probe.info().site_class, kind.site_class);
        EXPECT_FALSE(probe.info().is_armed);
        EXPECT_EQ(code_of(function), linked);
        EXPECT_TRUE(is_right(function));
        EXPECT_EQ(counter.calls, 0u);
        std::uint64_t hits = 0;
        for (int turn = 0; turn < 3; ++turn) {
            ASSERT_TRUE(probe.enable());
            ASSERT_TRUE(probe.enable()) << "it is already";
            EXPECT_TRUE(probe.is_enabled());
            EXPECT_TRUE(probe.info().is_armed);
            EXPECT_NE(code_of(function), linked);
            EXPECT_TRUE(is_right(function));
            EXPECT_EQ(counter.calls, ++hits);
            probe.disable();
            probe.disable();
            EXPECT_FALSE(probe.is_enabled());
            EXPECT_EQ(code_of(function), linked);
            EXPECT_TRUE(is_right(function));
            EXPECT_EQ(counter.calls, hits);
            EXPECT_EQ(probe.hits(), hits) << "counts stay";
        }
        ASSERT_TRUE(probe.enable());
        probe.detach();
        EXPECT_EQ(code_of(function), linked);
        EXPECT_TRUE(is_right(function));
    }
}

INSTANTIATE_TEST_SUITE_P(Of, EnableEachKind, testing::Range(std::size_t{0}, victim_kinds.size()),
                         [](const auto& info) { return victim_kinds[info.param].name; });

TEST_F(Enable, EachOfSeveralConsumersForItself) {
    const Victim function = victim_kinds[1].at[1];
    const auto linked = code_of(function);
    Counter a, b, c;
    Probe first = attach(function, a, false), second = attach(function, b, true), third = attach(function, c, false);
    const auto run = [&] {
        a.calls = b.calls = c.calls = 0;
        EXPECT_TRUE(is_right(function));
        return std::array{a.calls.load(), b.calls.load(), c.calls.load()};
    };
    using Calls = std::array<std::uint64_t, 3>;
    EXPECT_EQ(run(), (Calls{0, 1, 0}));
    EXPECT_EQ(first.info().consumers, 1u);
    ASSERT_TRUE(first.enable());
    EXPECT_EQ(run(), (Calls{1, 1, 0}));
    second.disable();
    EXPECT_EQ(run(), (Calls{1, 0, 0}));
    first.disable();
    EXPECT_EQ(run(), (Calls{0, 0, 0}));
    EXPECT_EQ(code_of(function), linked);
    ASSERT_TRUE(third.enable());
    EXPECT_EQ(run(), (Calls{0, 0, 1}));
    // Whoever goes leaves the disabled ones as they are.
    third.detach();
    EXPECT_EQ(run(), (Calls{0, 0, 0}));
    EXPECT_EQ(code_of(function), linked);
    ASSERT_TRUE(second.enable());
    first.detach();
    EXPECT_EQ(run(), (Calls{0, 1, 0}));
}

// More than are taken at a time, in more than one way.
TEST_F(Enable, ABatchOfAllKindsThreeTimesEach) {
    std::vector<Counter> counters(3 * victim_kinds.size() * test::victim_places);
    std::vector<ProbeRequest> requests;
    std::vector<Victim> functions;
    for (const VictimKind& kind : victim_kinds)
        for (Victim function : kind.at)
            for (int times = 0; times < 3; ++times) {
                ProbeOptions options = counters[requests.size()].options(kind.breakpoint);
                options.is_enabled = false;
                requests.push_back({function, options});
                functions.push_back(function);
            }
    auto probes = Probe::attach(requests);
    ASSERT_TRUE(probes) << probes.error().message();
    std::vector<std::array<std::byte, 16>> linked;
    for (Victim function : functions) linked.push_back(code_of(function));
    const auto all_run = [&](std::uint64_t expected) {
        for (Counter& counter : counters) counter.calls = 0;
        for (std::size_t i = 0; i < functions.size(); i += 3) EXPECT_TRUE(is_right(functions[i]));
        for (const Counter& counter : counters) EXPECT_EQ(counter.calls, expected);
    };
    all_run(0);
    for (int turn = 0; turn < 3; ++turn) {
        const auto enabled = Probe::enable(*probes);
        ASSERT_TRUE(enabled) << enabled.error().message();
        all_run(1);
        Probe::disable(*probes);
        all_run(0);
        for (std::size_t i = 0; i < functions.size(); ++i) EXPECT_EQ(code_of(functions[i]), linked[i]);
    }
}

TEST_F(Enable, OneThatIsRefusedChangesNothing) {
    const Victim function = victim_kinds[2].at[1], other = victim_kinds[3].at[1];
    Counter a, b;
    std::vector<Probe> probes;
    probes.push_back(attach(other, b, false));
    probes.push_back({});
    probes.push_back(attach(function, a, false));
    const auto linked = code_of(other);
    const auto foreign = std::byte{0xcc}, before = code_of(function)[0];
    test::write_naively(Address::of(function), &foreign, 1);
    const auto refused = Probe::enable(probes);
    test::write_naively(Address::of(function), &before, 1);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::bytes_changed) << refused.error().message();
    EXPECT_EQ(refused.error().element, 2u);
    EXPECT_EQ(refused.error().address, Address::of(function));
    EXPECT_EQ(refused.error().code_bytes[0], foreign);
    EXPECT_FALSE(probes[0].is_enabled() || probes[2].is_enabled());
    EXPECT_EQ(code_of(other), linked);
    ASSERT_TRUE(Probe::enable(probes));
    EXPECT_TRUE(is_right(function) && is_right(other));
    EXPECT_EQ(a.calls + b.calls, 2u);
}

// A jump of somebody else's stands in one place: the others are restored all the same.
TEST_F(Enable, OneThatCannotBeDisabledKeepsNoneOfTheOthers) {
    Counter counter;
    std::vector<Probe> probes;
    std::vector<std::array<std::byte, 16>> linked;
    for (Victim function : victim_kinds[1].at) {
        linked.push_back(code_of(function));
        probes.push_back(attach(function, counter, true));
    }
    const Victim changed = victim_kinds[1].at[2];
    const auto armed = code_of(changed);
    const auto foreign = std::byte{0x90};
    test::write_naively(Address::of(changed), &foreign, 1);
    Probe::disable(probes);
    for (std::size_t i = 0; i < probes.size(); ++i) EXPECT_EQ(code_of(victim_kinds[1].at[i]) == linked[i], i != 2);
    EXPECT_EQ(code_of(changed)[0], foreign);
    test::write_naively(Address::of(changed), &armed[0], 1);
    EXPECT_TRUE(is_right(changed));
    EXPECT_EQ(counter.calls, 0u) << "the jump stayed, and leads to nobody";
    Probe::disable(probes);
}

TEST_F(Enable, ThePlaceIsKept) {
    if (victim_kinds[1].boundary_count == 0) GTEST_SKIP() << "a jump displaces one instruction on this machine";
    const Victim function = victim_kinds[1].at[1];
    Counter a, b;
    Probe kept = attach(function, a, false);
    // The second instruction is a part of what the jump would displace.
    const Address inside = Address::of(function) + victim_kinds[1].boundaries[0];
    const auto refused = Probe::attach(inside, b.options(if_needed));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::patched_place) << refused.error().message();
    ASSERT_TRUE(kept.enable());
    EXPECT_TRUE(is_right(function));
    EXPECT_EQ(a.calls, 1u);
    kept.detach();
    Probe other = attach(inside, b, true);
    EXPECT_TRUE(is_right(function));
    EXPECT_EQ(b.calls, 1u);
}

TEST_F(Enable, AfterAHandlerHasDisabledItself) {
    const Victim function = victim_kinds[0].at[1];
    const auto linked = code_of(function);
    Counter counter;
    counter.asks_to_be_disabled = true;
    Probe probe = attach(function, counter, true);
    for (std::uint64_t turn = 1; turn <= 3; ++turn) {
        EXPECT_TRUE(is_right(function) && is_right(function));
        EXPECT_EQ(counter.calls, turn);
        EXPECT_FALSE(probe.is_enabled());
        EXPECT_EQ(code_of(function), linked);
        ASSERT_TRUE(probe.enable());
    }
}

TEST_F(Enable, FromInsideOfHandlers) {
    static Probe other;
    static Counter counter;
    counter.reset();
    const Victim function = victim_kinds[0].at[2], second = victim_kinds[1].at[2];
    other = attach(second, counter, false);
    auto probe = Probe::attach(function, {.on_hit = [](ProbeHit&) {
                                   if (other.is_enabled())
                                       other.disable();
                                   else
                                       EXPECT_TRUE(other.enable());
                                   return AfterHit::keep;
                               }});
    ASSERT_TRUE(probe);
    for (std::uint64_t turn = 1; turn <= 3; ++turn) {
        EXPECT_TRUE(is_right(function) && is_right(second));
        EXPECT_EQ(counter.calls, turn);
        EXPECT_TRUE(is_right(function) && is_right(second));
        EXPECT_EQ(counter.calls, turn);
    }
    other.detach();
}

// The same address leads to other copies in turn: what the cache knew of it is forgotten each time.
TEST_F(Enable, WithTheCacheATrapGoesWhereTheTableSays) {
    for (const bool with_cache : {false, true, false, true}) {
        ASSERT_TRUE(set_probe_cache(with_cache));
        EXPECT_EQ(has_probe_cache(), with_cache);
        const Victim function = victim_kinds[1].at[1], other = victim_kinds[6].at[0];
        for (int turn = 0; turn < 3; ++turn) {
            Counter trapping, jumping, beside;
            const Probe second = attach(other, beside, true, AllowBreakpoint::always);
            {
                const Probe probe = attach(function, trapping, true, AllowBreakpoint::always);
                for (int i = 0; i < 3; ++i) EXPECT_TRUE(is_right(function) && is_right(other));
            }
            const Probe probe = attach(function, jumping, true, AllowBreakpoint::never);
            EXPECT_TRUE(is_right(function));
            EXPECT_EQ(trapping.calls, 3u);
            EXPECT_EQ(beside.calls, 3u);
            EXPECT_EQ(jumping.calls, 1u);
        }
    }
    ASSERT_TRUE(set_probe_cache(false));
}

TEST_F(Enable, WhatIsUnloadedIsRefused) {
    void* const object = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(object, nullptr);
    const auto function = reinterpret_cast<int (*)(int)>(dlsym(object, "plugin_function"));
    Counter counter, stays;
    std::vector<Probe> probes;
    probes.push_back(attach(victim_kinds[0].at[0], stays, false));
    probes.push_back(attach(function, counter, false));
    const Address at = Address::of(function);
    dlclose(object);
    const auto refused = Probe::enable(probes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::not_loaded) << refused.error().message();
    EXPECT_EQ(refused.error().element, 1u);
    EXPECT_EQ(refused.error().address, at);
    EXPECT_FALSE(probes[0].is_enabled());
    EXPECT_TRUE(probes[0].enable());
    Probe::disable(probes);
}

TEST_F(Enable, WhatWasUnloadedWhileItWasEnabledIsRefused) {
    void* const object = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(object, nullptr);
    Counter counter;
    Probe probe = attach(reinterpret_cast<int (*)(int)>(dlsym(object, "plugin_function")), counter, true);
    dlclose(object);
    probe.disable();
    const auto refused = probe.enable();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::not_loaded) << refused.error().message();
    EXPECT_FALSE(probe.is_enabled());
}

// A second one, too, waits for who is inside.
TEST_F(Enable, WhoHasDisabledFindsNobodyInside) {
    static std::atomic<bool> is_inside, may_leave, has_left;
    is_inside = may_leave = has_left = false;
    const Victim function = victim_kinds[0].at[0];
    auto attached = Probe::attach(function, {.on_hit = [](ProbeHit&) {
                                      is_inside = true;
                                      while (!may_leave) sched_yield();
                                      has_left = true;
                                      return AfterHit::keep;
                                  }});
    ASSERT_TRUE(attached);
    std::jthread hit([&] { is_right(function); });
    while (!is_inside) sched_yield();
    std::atomic<int> calls{0};
    const auto disable = [&] {
        ++calls;
        attached->disable();
        EXPECT_TRUE(has_left);
    };
    std::jthread first(disable), second(disable);
    while (calls != 2) sched_yield();
    for (int i = 0; i < 1000; ++i) sched_yield();
    may_leave = true;
}

TEST_F(Enable, AChildThatHasDroppedThemMayEnableThem) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const Victim function = victim_kinds[1].at[0];
    Counter counter;
    Probe probe = attach(function, counter, true);
    set_probes_in_children(InChildren::drop);
    const auto child = test::in_child([&] {
        if (!is_right(function) || counter.calls != 0 || probe.is_enabled()) return 1;
        if (!probe.enable() || !is_right(function) || counter.calls != 1) return 2;
        return 0;
    });
    set_probes_in_children(InChildren::keep);
    EXPECT_EQ(child.status, 0);
    EXPECT_TRUE(is_right(function));
    EXPECT_EQ(counter.calls, 1u);
}

TEST_F(Enable, ReturnProbes) {
    static int entries, returns;
    entries = returns = 0;
    const ProbeTarget targets[] = {victim_kinds[0].at[0], victim_kinds[1].at[1]};
    auto probe = ReturnProbe<>::attach(targets, {.on_entry =
                                                     [](NoCallData&, Registers&) {
                                                         ++entries;
                                                         return Track::track;
                                                     },
                                                 .on_return = [](NoCallData&, Registers&) { ++returns; },
                                                 .is_enabled = false});
    ASSERT_TRUE(probe) << probe.error().message();
    const auto run = [&] { return is_right(victim_kinds[0].at[0]) && is_right(victim_kinds[1].at[1]); };
    for (int turn = 1; turn <= 3; ++turn) {
        EXPECT_TRUE(run());
        EXPECT_EQ(entries, 2 * (turn - 1));
        ASSERT_TRUE(probe->enable());
        EXPECT_TRUE(run());
        EXPECT_EQ(entries, 2 * turn);
        EXPECT_EQ(returns, 2 * turn);
        probe->disable();
    }
    EXPECT_EQ(probe->counts().calls, 6u);
    EXPECT_EQ(probe->in_flight(), 0u);
}

TEST_F(Enable, TypedProbes) {
    unsigned long seen = 0;
    auto probe = probe_typed(victim_kinds[0].at[0], [&seen](unsigned long& a, unsigned long&, unsigned long&) { seen += a; });
    ASSERT_TRUE(probe) << probe.error().message();
    probe->disable();
    EXPECT_TRUE(is_right(victim_kinds[0].at[0]));
    EXPECT_EQ(seen, 0u);
    ASSERT_TRUE(probe->enable());
    EXPECT_TRUE(is_right(victim_kinds[0].at[0]));
    EXPECT_EQ(seen, 20u);
}

}  // namespace
}  // namespace dynfunc
