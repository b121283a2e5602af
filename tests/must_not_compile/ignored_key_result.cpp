// SPDX-License-Identifier: MIT
// A refusal to switch a static key that nobody reads.
// expect: ignoring return value
// expect: nodiscard
#include <dynfunc/static_key.hpp>

DYNFUNC_STATIC_KEY_FALSE(verbose);

int main() { verbose.enable(); }
