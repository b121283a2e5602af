// SPDX-License-Identifier: MIT
// A tracepoint that would return something.
// expect: dynfunc: the signature of a tracepoint is void(types...): no result
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, int(int));

int main() { DYNFUNC_TRACE(step, 1); }
