// SPDX-License-Identifier: MIT
// A type of an unnamed namespace in the signature of a tracepoint.
// expect: dynfunc: a tracepoint, or a type in its signature, cannot stand in an unnamed namespace
#include <dynfunc/tracepoint.hpp>

namespace {
struct Local {
    int x;
};
}  // namespace

DYNFUNC_TRACEPOINT(step, void(Local));

int main() { DYNFUNC_TRACE(step, Local{1}); }
