// SPDX-License-Identifier: MIT
// A null target where the result is a reference: there is no value to return.
// expect: dynfunc: a null target needs a result that can be value-initialised
#include <dynfunc/dynfunc.hpp>

static int& same(int& x) { return x; }

DYNFUNC(reference, int&(int&), &same);

int main() { return reference.retarget(nullptr).has_value(); }
