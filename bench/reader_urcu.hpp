// SPDX-License-Identifier: MIT
// liburcu with its readers inline, as a program under the LGPL has them. Include a flavour's header behind this one.
#pragma once

#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/tls-compat.h>

// For C++ it says thread_local, which the compiler reads through a function, in case the variable has a constructor. It has
// none: liburcu defines it in C.
#undef URCU_TLS_STORAGE_CLASS
#define URCU_TLS_STORAGE_CLASS __thread
