// SPDX-License-Identifier: MIT
// A call without its argument.
// expect g++: no match for call to '(dynfunc::Function<step_dynfunc_tag, int(int)>) ()'
// expect clang++: no matching function for call to object of type
// expect clang++: int (int)
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);

int main() { return step(); }
