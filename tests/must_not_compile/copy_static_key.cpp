// SPDX-License-Identifier: MIT
// A copy of a static key: it would have no sites.
// expect g++: use of deleted function
// expect clang++: call to deleted constructor
#include <dynfunc/static_key.hpp>

DYNFUNC_STATIC_KEY_FALSE(verbose);

int main() {
    auto copy = verbose;
    return copy.is_enabled();
}
