// SPDX-License-Identifier: MIT
// A pointer in place of a signature.
// expect: dynfunc: the signature is a function type such as
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int (*)(int), &one);

int main() { return 0; }
