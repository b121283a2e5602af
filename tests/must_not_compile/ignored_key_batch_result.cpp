// SPDX-License-Identifier: MIT
// A refusal of a batch of static keys that nobody reads.
// expect: ignoring return value
// expect: nodiscard
#include <dynfunc/static_key.hpp>

DYNFUNC_STATIC_KEY_FALSE(verbose);

int main() { dynfunc::update_all({verbose.to(true)}); }
