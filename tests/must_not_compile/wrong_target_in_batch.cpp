// SPDX-License-Identifier: MIT
// A target of another signature, in a batch.
// expect g++: invalid conversion from 'double (*)(double)'
// expect clang++: with an rvalue of type 'double (*)(double)'
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }
static double half(double x) { return x / 2; }

DYNFUNC(step, int(int), &one);

int main() { return dynfunc::retarget_all({step.to(&half)}).has_value(); }
