// SPDX-License-Identifier: MIT
// A tracepoint whose arguments have no types.
// expect: dynfunc: the signature of a tracepoint is void(types...): no result, no noexcept, no '...'
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int, ...));

int main() { DYNFUNC_TRACE(step, 1, 2); }
