// SPDX-License-Identifier: MIT
// A call with an argument that does not convert.
// expect g++: invalid conversion from 'const char*' to 'int'
// expect clang++: no matching function for call to object of type
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);

int main() { return step("one"); }
