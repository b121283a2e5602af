// SPDX-License-Identifier: MIT
// A default target of another signature.
// expect g++: invalid conversion from 'double (*)(double)'
// expect clang++: no known conversion from 'double (*)(double)'
#include <dynfunc/dynfunc.hpp>

static double half(double x) { return x / 2; }

DYNFUNC(step, int(int), &half);

int main() { return 0; }
