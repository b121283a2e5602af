// SPDX-License-Identifier: MIT
// Wrapping a function with a variable number of arguments.
// expect g++: invalid conversion from 'int (*)(const char*, ...)'
// expect clang++: no matching function for call to 'wrap_typed'
#include <dynfunc/typed_wrap.hpp>

static int print(const char* format, ...) { return *format; }

int main() {
    return dynfunc::wrap_typed(&print, [](auto original, const char* format) { return original(format); }).has_value();
}
