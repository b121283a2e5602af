// SPDX-License-Identifier: MIT
// A function that gets its data before the arguments: data comes last.
// expect g++: invalid conversion from 'void (*)(void*, int)' to
// expect clang++: no matching member function for call to 'attach'
#include <dynfunc/tracepoint.hpp>

static void take(void*, int) {}

DYNFUNC_TRACEPOINT(step, void(int));

int main() {
    int data = 0;
    return step.attach(&take, &data).has_value();
}
