// SPDX-License-Identifier: MIT
// What every file of the program uses to check itself: a failed check prints its place and is counted.
#pragma once

#include <cstdio>

namespace matrix {

inline int failed_checks = 0;

inline void check(bool holds, const char* text, const char* file, int line) {
    if (holds) return;
    ++failed_checks;
    std::printf("%s:%d: does not hold: %s\n", file, line, text);
}

}  // namespace matrix

#define CHECK(...) ::matrix::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
