// SPDX-License-Identifier: MIT
// A shared library that the program is linked with: it exports a dynamic function that the program calls and retargets.
#include "functions.hpp"

static int add_40(int x) { return x + 40; }

DYNFUNC(linked_step, int(int), &add_40);

int library_calls_linked_step(int x) { return linked_step(x); }
