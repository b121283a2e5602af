// SPDX-License-Identifier: MIT
// A null default target where the result is a reference.
// expect: dynfunc: a null target needs a result that can be value-initialised
#include <dynfunc/dynfunc.hpp>

DYNFUNC(reference, int&(int&), nullptr);

int main() { return 0; }
