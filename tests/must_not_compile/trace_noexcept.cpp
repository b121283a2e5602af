// SPDX-License-Identifier: MIT
// A tracepoint that promises what its callbacks need not keep.
// expect: dynfunc: the signature of a tracepoint is void(types...): no result, no noexcept
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int) noexcept);

int main() { DYNFUNC_TRACE(step, 1); }
