// SPDX-License-Identifier: MIT
// A plug-in with a static copy of the library in it.
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>

namespace static_copy {
int plus_one(int x) { return x + 1; }
int plus_two(int x) { return x + 2; }
DYNFUNC(function, int(int), &plus_one);
}  // namespace static_copy

// 5, then 6; a negative number if the retarget is refused.
extern "C" [[gnu::visibility("default")]] int call_and_retarget(int x) {
    const dynfunc::ReadSection inside;
    const int result = static_copy::function(x);
    return static_copy::function.retarget(&static_copy::plus_two) ? result : -1;
}
