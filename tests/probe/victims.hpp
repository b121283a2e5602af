// SPDX-License-Identifier: MIT
// The functions of victims_x86.S, by the class that their probes have.
#pragma once

#include <dynfunc/probe.hpp>

#include <array>
#include <cstdint>
#include <cstring>

namespace dynfunc::test {

using Victim = unsigned long (*)(unsigned long a, unsigned long b, unsigned long zero);

constexpr unsigned long victim_result(unsigned long a, unsigned long b) { return 2 * a + 3 * b + 7; }

#define DYNFUNC_TEST_VICTIMS(kind) victim_##kind##_word, victim_##kind##_split, victim_##kind##_line, victim_##kind##_page
#define DYNFUNC_TEST_DECLARE(name) unsigned long name(unsigned long, unsigned long, unsigned long);
#define DYNFUNC_TEST_DECLARE_4(kind)            \
    DYNFUNC_TEST_DECLARE(victim_##kind##_word)  \
    DYNFUNC_TEST_DECLARE(victim_##kind##_split) \
    DYNFUNC_TEST_DECLARE(victim_##kind##_line)  \
    DYNFUNC_TEST_DECLARE(victim_##kind##_page)
extern "C" {
DYNFUNC_TEST_DECLARE_4(whole)
DYNFUNC_TEST_DECLARE_4(guarded1)
DYNFUNC_TEST_DECLARE_4(guarded2)
DYNFUNC_TEST_DECLARE_4(guarded3)
DYNFUNC_TEST_DECLARE_4(guarded4)
DYNFUNC_TEST_DECLARE_4(punned)
DYNFUNC_TEST_DECLARE_4(breakpoint)
unsigned long call_stepped(Victim function, unsigned long a, unsigned long b);
}

inline constexpr std::size_t victim_places = 4;

struct VictimKind {
    const char* name;
    SiteClass site_class;
    std::array<Victim, victim_places> at;  // word, split, line, page
    std::array<std::uint8_t, 4> boundaries;
    std::size_t boundary_count;
    AllowBreakpoint breakpoint = AllowBreakpoint::never;
};

inline constexpr std::array<VictimKind, 7> victim_kinds{{
    {"whole", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(whole)}, {}, 0},
    {"guarded1", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded1)}, {3}, 1},
    {"guarded2", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded2)}, {1, 4}, 2},
    {"guarded3", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded3)}, {1, 2, 4}, 3},
    {"guarded4", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded4)}, {1, 2, 3, 4}, 4},
    {"punned", SiteClass::punned, {DYNFUNC_TEST_VICTIMS(punned)}, {}, 0},
    {"breakpoint", SiteClass::breakpoint, {DYNFUNC_TEST_VICTIMS(breakpoint)}, {}, 0, AllowBreakpoint::always},
}};

#undef DYNFUNC_TEST_VICTIMS
#undef DYNFUNC_TEST_DECLARE
#undef DYNFUNC_TEST_DECLARE_4

}  // namespace dynfunc::test
