// SPDX-License-Identifier: MIT
// A callback that ends where it begins.
// expect: ignoring return value
// expect: nodiscard
#include <dynfunc/tracepoint.hpp>

static void take(int) {}

DYNFUNC_TRACEPOINT(step, void(int));

int main() { step.attach(&take); }
