// SPDX-License-Identifier: MIT
// A function with other parameters than the tracepoint has.
// expect g++: no matching function for call to 'dynfunc::Tracepoint<step_dynfunc_tag, void(int)>::attach(void (*)(double))'
// expect clang++: no matching member function for call to 'attach'
#include <dynfunc/tracepoint.hpp>

static void take(double) {}

DYNFUNC_TRACEPOINT(step, void(int));

int main() { return step.attach(&take).has_value(); }
