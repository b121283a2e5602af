// SPDX-License-Identifier: MIT
// The machine a run was made on, as far as a reader of its figures must know it.
#pragma once

#include "results.hpp"

namespace bench {

// cpu, cores, kernel, compiler, clocking (the frequency governor, or that the machine is virtual), load, capabilities.
std::vector<Param> describe_machine();

}  // namespace bench
