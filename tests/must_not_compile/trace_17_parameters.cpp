// SPDX-License-Identifier: MIT
// A tracepoint with more parameters than one can have.
// expect: dynfunc: a tracepoint has at most 16 parameters
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int));

int main() { DYNFUNC_TRACE(step, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17); }
