// SPDX-License-Identifier: MIT
// Inside of victims.hpp.
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

inline constexpr std::array<VictimKind, 7> victim_kinds{{
    {"whole", SiteClass::whole, {DYNFUNC_TEST_VICTIMS(whole)}, {}, 0},
    {"guarded1", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded1)}, {3}, 1},
    {"guarded2", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded2)}, {1, 4}, 2},
    {"guarded3", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded3)}, {1, 2, 4}, 3},
    {"guarded4", SiteClass::guarded, {DYNFUNC_TEST_VICTIMS(guarded4)}, {1, 2, 3, 4}, 4},
    {"punned", SiteClass::punned, {DYNFUNC_TEST_VICTIMS(punned)}, {}, 0},
    {"breakpoint", SiteClass::breakpoint, {DYNFUNC_TEST_VICTIMS(breakpoint)}, {}, 0, AllowBreakpoint::always},
}};
