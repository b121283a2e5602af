// SPDX-License-Identifier: MIT
// A signature that only a member function can have.
// expect: dynfunc: the signature is a function type such as
#include <dynfunc/dynfunc.hpp>

DYNFUNC(step, int(int) const, nullptr);

int main() { return 0; }
