// SPDX-License-Identifier: MIT
// A copy of a function: it would be a second truth.
// expect g++: use of deleted function
// expect clang++: call to deleted constructor
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);

int main() {
    auto copy = step;
    return copy(1);
}
