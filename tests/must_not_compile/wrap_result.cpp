// SPDX-License-Identifier: MIT
// A wrap that does not return what the function returns.
// expect: dynfunc: the callable takes the original function and its arguments, and returns what it returns
#include <dynfunc/typed_wrap.hpp>

static int length(const char* text) { return *text; }

int main() {
    return dynfunc::wrap_typed(&length, [](auto original, const char* text) { original(text); }).has_value();
}
