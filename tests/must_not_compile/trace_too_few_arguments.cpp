// SPDX-License-Identifier: MIT
// An event without one of its arguments.
// expect g++: too few arguments to function
// expect clang++: too few arguments to function call
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int, int));

int main() { DYNFUNC_TRACE(step, 1); }
