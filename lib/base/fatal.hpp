// SPDX-License-Identifier: MIT
// The end of a process whose invariants are broken: one line on stderr, then abort().
#pragma once

namespace dynfunc {

// Async-signal-safe; keeps no lock, allocates nothing.
[[noreturn]] void fatal(const char* line) noexcept;

}  // namespace dynfunc
