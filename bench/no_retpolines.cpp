// SPDX-License-Identifier: MIT
// Where the compiler has no option for retpolines: empty loops, whose cases are left out.
#include "indirect_loops.hpp"
#include "iterators.hpp"

namespace bench {

const IndirectLoops retpoline_loops = {};
const IteratorLoops retpoline_iterators = {};

}  // namespace bench
