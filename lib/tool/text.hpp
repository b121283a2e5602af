// SPDX-License-Identifier: MIT
// What reports are written with.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>

namespace dynfunc::tool {

// One line at most.
template <class... Values>
void add(std::string& text, const char* format, Values... values) {
    char line[256];
    std::snprintf(line, sizeof line, format, values...);
    text += line;
}

// A file may call its functions anything, also what a terminal obeys.
inline std::string harmless(std::string name) {
    std::ranges::replace_if(
        name, [](unsigned char letter) { return letter < ' ' || letter == 0x7f; }, '?');
    return name.empty() ? "(no name)" : name;
}

}  // namespace dynfunc::tool
