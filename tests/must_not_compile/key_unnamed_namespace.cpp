// SPDX-License-Identifier: MIT
// A static key in an unnamed namespace.
// expect: dynfunc: a static key cannot stand in an unnamed namespace
#include <dynfunc/static_key.hpp>

namespace {
DYNFUNC_STATIC_KEY_FALSE(verbose);
}

int main() { return static_branch_unlikely(verbose); }
