// SPDX-License-Identifier: MIT
// A refusal of a batch that nobody reads.
// expect: ignoring return value
// expect: nodiscard
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);

int main() { dynfunc::retarget_all({step.to(&one)}); }
