// SPDX-License-Identifier: MIT
// Has the shared object it is linked into announce its tables, as any file with a dynamic function does.
#include <dynfunc/dynfunc.hpp>

DYNFUNC_GUARD_DSO();
