// SPDX-License-Identifier: MIT
// Assigning one function to another.
// expect g++: no match for 'operator='
// expect clang++: no viable overloaded '='
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);
DYNFUNC(other, int(int), &one);

int main() { step = other; }
