// SPDX-License-Identifier: MIT
// What threads have counted.
#pragma once

#include "hit.hpp"

namespace dynfunc {

inline constexpr std::size_t most_counters = HitCounts::chunk_size * HitCounts::chunks;

// By all threads since the process began. Threads: any; takes no lock.
std::uint64_t count_hits(std::uint32_t counter) noexcept;

// In the only thread of a child process.
void free_counts_of_other_threads() noexcept;

}  // namespace dynfunc
