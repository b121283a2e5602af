// SPDX-License-Identifier: MIT
// A parameter that would be copied for each of several callbacks.
// expect: dynfunc: a tracepoint's parameter takes more than 16 bytes: pass it as const T&
#include <dynfunc/tracepoint.hpp>

struct Large {
    long words[3];
};

DYNFUNC_TRACEPOINT(step, void(const Large&, Large));

int main() { DYNFUNC_TRACE(step, Large{}, Large{}); }
