// SPDX-License-Identifier: MIT
// What the inline half of an object pool knows: where each CPU keeps its objects.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

// One CPU's stack of free objects. Only threads that run on that CPU write `top` and the slots, each in one restartable
// sequence that ends in the store of `top`; another CPU may shut it (lib/pool/stacks.cpp).
//
//     top    bits 0..6   how many of the slots are filled
//            bit 7       shut: no sequence may change anything here
//            bits 8..63  how many objects were popped from here: adding 255 pops one and counts it
struct PoolStack {
    std::uint64_t top;
    std::uint64_t gate;  // who may shut and open it
    std::uint16_t cpu;   // whose it is
    std::uint16_t list;  // into which threads of this CPU put what does not stay here
    // The slots follow, and at the end of the block PoolCounts.
};

// What threads of one CPU count, away from `top`: whoever searches looks there, and every miss and every operation that finds
// the stack shut writes here.
struct PoolCounts {
    std::uint64_t quiet;  // operations since the stack was shut, or since a miss
    std::uint64_t misses, steals;
};

inline constexpr std::size_t pool_stack_slots = sizeof(PoolStack);  // where they begin
inline constexpr std::uint64_t pool_stack_shut = 0x80;
inline constexpr std::uint64_t pool_stack_count = 0x7f;  // the bits that hold the number of filled slots
inline constexpr std::uint64_t pool_stack_popped = 255;  // what a pop adds to `top`
inline constexpr int pool_stack_pops = 8;                // where the number of pops begins

struct PoolCore;

// What pop and push do where this CPU's stack does not serve. `stack` is the one of the CPU on which the thread was when it
// found nothing there; null: it was interrupted, or there are no sequences.
struct PoolWays {
    void* (*pop)(PoolCore&, PoolStack* stack) noexcept;
    void (*push)(PoolCore&, void* object) noexcept;
};

// Written once, before anyone else knows the pool, but for `area`. The stack of CPU 0 follows it after pool_core_bytes, each
// further one after block_bytes.
struct PoolCore {
    // From the thread pointer to what the kernel tells the thread (struct rseq). 0: no sequences, or all stacks are shut, so
    // that trying them is time lost. Changed while others read it (relaxed): nobody is wrong who has the older value.
    std::ptrdiff_t area;
    std::uint64_t block_bytes;  // from one CPU's stack to the next
    std::uint64_t limit;        // how many objects a stack holds at most
    const PoolWays* ways;
};

inline constexpr std::size_t pool_core_bytes = 192;

}  // namespace dynfunc::detail
