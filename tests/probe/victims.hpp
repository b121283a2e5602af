// SPDX-License-Identifier: MIT
// The functions of victims_<machine>.S, by how their first instructions are replaced.
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
inline constexpr std::size_t victim_places = 4;

struct VictimKind {
    const char* name;
    SiteClass site_class;
    std::array<Victim, victim_places> at;  // word, split, line, page
    std::array<std::uint8_t, 4> boundaries;
    std::size_t boundary_count;
    AllowBreakpoint breakpoint = AllowBreakpoint::never;
};

#include DYNFUNC_TEST_VICTIMS_OF_MACHINE

#undef DYNFUNC_TEST_VICTIMS
#undef DYNFUNC_TEST_DECLARE
#undef DYNFUNC_TEST_DECLARE_4

}  // namespace dynfunc::test
