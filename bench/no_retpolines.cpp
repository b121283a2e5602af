// SPDX-License-Identifier: MIT
// Where the compiler has no option for retpolines: empty loops, whose cases are left out.
#include "indirect_loops.hpp"

namespace bench {

const IndirectLoops retpoline_loops = {};

}  // namespace bench
