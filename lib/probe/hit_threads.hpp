// SPDX-License-Identifier: MIT
// What threads have counted.
#pragma once

#include "hit.hpp"

namespace dynfunc {

inline constexpr std::size_t most_counters = HitCounts::chunk_size * HitCounts::chunks;

// By all threads since the process began. Acquires what was done before a thread counted. Threads: any; takes no lock.
std::uint64_t count_hits(std::uint32_t counter) noexcept;

// Of this thread, which is registered. Without memory it is not there afterwards.
void make_hit_chunk(std::size_t chunk) noexcept;

// Where this thread delivers a hit whose frame was left (it lies below `frame`): it does not any more. Before whatever may wait
// for others.
void forget_left_hit(const void* frame = __builtin_frame_address(0)) noexcept;

// In the only thread of a child process.
void free_counts_of_other_threads() noexcept;

}  // namespace dynfunc
