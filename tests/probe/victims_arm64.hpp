// SPDX-License-Identifier: MIT
// Inside of victims.hpp. One instruction is replaced by one: nobody can stand inside.
extern "C" {
DYNFUNC_TEST_DECLARE_4(whole)
DYNFUNC_TEST_DECLARE_4(address)
DYNFUNC_TEST_DECLARE_4(literal)
DYNFUNC_TEST_DECLARE_4(branch)
DYNFUNC_TEST_DECLARE_4(bit)
DYNFUNC_TEST_DECLARE_4(pair)
DYNFUNC_TEST_DECLARE_4(breakpoint)
unsigned long call_stepped(Victim function, unsigned long a, unsigned long b);
}

inline constexpr std::array<VictimKind, 7> victim_kinds{{
    {"whole", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(whole)}, {}, 0},
    {"address", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(address)}, {}, 0},
    {"literal", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(literal)}, {}, 0},
    {"branch", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(branch)}, {}, 0},
    {"bit", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(bit)}, {}, 0},
    {"pair", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(pair)}, {}, 0},
    {"breakpoint", SiteClass::breakpoint, {DYNFUNC_TEST_VICTIMS(breakpoint)}, {}, 0, AllowBreakpoint::always},
}};
