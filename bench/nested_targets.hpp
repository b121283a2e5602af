// SPDX-License-Identifier: MIT
// Functions that are inside each other when they are probed: a chain of which each calls the next one, and one that calls
// itself. All begin with a nop of 5 bytes. As in probe_targets.hpp there are copies, here each on pages of its own.
#pragma once

#include <array>
#include <cstddef>

#include "probe_targets.hpp"

namespace bench::probes {

inline constexpr std::size_t chain_length = 9, nested_copies = 4;

// Outermost first; a call of it returns its argument and chain_length.
std::array<Site, chain_length> chain(std::size_t copy);

// Called with n it calls itself n times, each inside the one before, and returns n.
Site recursion(std::size_t copy);

}  // namespace bench::probes
