// SPDX-License-Identifier: MIT
// Visibility of what the library exports, also for a program that is compiled with -fvisibility=hidden.
#pragma once

#define DYNFUNC_EXPORT [[gnu::visibility("default")]]
#define DYNFUNC_HIDDEN [[gnu::visibility("hidden")]]
