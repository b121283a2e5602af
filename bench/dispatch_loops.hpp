// SPDX-License-Identifier: MIT
// Calls through the dispatch layers of the standard library and of Boost, and through a generic build's dynamic function.
#pragma once

#include <cstdint>

namespace bench {

void std_function_loop(std::uint64_t n);
void signals2_loop(std::uint64_t n);  // boost::signals2, one slot
void generic_loop(std::uint64_t n);   // DYNFUNC as compiled with -Dbackend=generic

}  // namespace bench
