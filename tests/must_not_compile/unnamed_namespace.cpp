// SPDX-License-Identifier: MIT
// A dynamic function in an unnamed namespace.
// expect: cannot stand in an unnamed namespace
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

namespace {
DYNFUNC(step, int(int), &one);
}

int main() { return step(1); }
