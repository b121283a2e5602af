// SPDX-License-Identifier: MIT
// An event with an argument that does not convert.
// expect g++: invalid conversion from 'const char*' to 'int'
// expect clang++: cannot initialize a parameter of type 'int' with an lvalue of type 'const char[4]'
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int));

int main() { DYNFUNC_TRACE(step, "one"); }
