// SPDX-License-Identifier: MIT
// A copy of a tracepoint: its callbacks would hear nothing.
// expect g++: use of deleted function
// expect clang++: call to deleted constructor
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(step, void(int));

int main() {
    auto copy = step;
    return copy.is_on();
}
