// SPDX-License-Identifier: MIT
// A type of an unnamed namespace in a signature.
// expect: cannot stand in an unnamed namespace
#include <dynfunc/dynfunc.hpp>

namespace {
struct Local {};
}  // namespace

static int take(Local) { return 1; }

DYNFUNC(step, int(Local), &take);

int main() { return step(Local{}); }
