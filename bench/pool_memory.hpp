// SPDX-License-Identifier: MIT
// What the contestants of the bench "pool" need beside the objects, computed.
#pragma once

#include "results.hpp"

namespace bench::pool {

void add_memory_table(Results&);

}  // namespace bench::pool
