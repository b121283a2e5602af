// SPDX-License-Identifier: MIT
// A target that may throw, for callers who were promised that it does not.
// expect g++: invalid conversion from 'int (*)(int)'
// expect clang++: no matching member function for call to 'retarget'
#include <dynfunc/dynfunc.hpp>

static int quiet(int x) noexcept { return x + 1; }
static int loud(int x) { return x + 2; }

DYNFUNC(step, int(int) noexcept, &quiet);

int main() { return step.retarget(&loud).has_value(); }
