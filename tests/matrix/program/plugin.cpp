// SPDX-License-Identifier: MIT
// A shared object that comes and goes: defines and calls its own dynamic function, calls and retargets the program's.
#include "functions.hpp"

static int half(int x) { return x / 2; }
static int square(int x) { return x * x; }

DYNFUNC(plugin_step, int(int), &half);

extern "C" {

EXPORTED int plugin_own(int x) { return plugin_step(x); }
EXPORTED int plugin_shared(int x) { return inline_caller(x); }
EXPORTED bool plugin_retarget_own() { return plugin_step.retarget(&square).has_value(); }
EXPORTED bool plugin_retarget_shared() { return shared_step.retarget(&square).has_value(); }
}
