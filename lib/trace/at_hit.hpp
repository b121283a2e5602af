// SPDX-License-Identifier: MIT
// Of code that runs at every hit: no vector register, and no call of anything that may itself be probed.
#pragma once

#include <dynfunc/detail/machine.hpp>

// A function that the library calls, and one that such functions call.
#define DYNFUNC_AT_HIT DYNFUNC_DETAIL_NO_VECTORS
#define DYNFUNC_IN_HIT DYNFUNC_DETAIL_INLINE_NO_VECTORS inline
