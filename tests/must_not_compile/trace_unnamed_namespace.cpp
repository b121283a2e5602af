// SPDX-License-Identifier: MIT
// A tracepoint in an unnamed namespace.
// expect: dynfunc: a tracepoint, or a type in its signature, cannot stand in an unnamed namespace
#include <dynfunc/tracepoint.hpp>

namespace {
DYNFUNC_TRACEPOINT(step, void(int));
}

int main() { DYNFUNC_TRACE(step, 1); }
