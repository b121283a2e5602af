// SPDX-License-Identifier: MIT
// A target of another signature.
// expect g++: invalid conversion from 'double (*)(double)'
// expect clang++: no known conversion from 'double (*)(double)'
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }
static double half(double x) { return x / 2; }

DYNFUNC(step, int(int), &one);

int main() { return step.retarget(&half).has_value(); }
