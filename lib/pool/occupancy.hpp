// SPDX-License-Identifier: MIT
// Bits that say where a search for free objects may find some, so that a miss on a large machine does not look everywhere.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace dynfunc {

// Never freed, only used again by other pools: who has just put an object into a list sets its bit afterwards, when the pool
// may be gone already. A bit that is set without need costs one look.
struct Occupancy {
    std::atomic<std::uint64_t>* filled;  // lists that may hold something
    std::atomic<std::uint64_t>* open;    // positions whose CPU's stack is not shut
};

// All bits zero. Null pointers: no memory. Threads: any.  Blocks: in the kernel, where there is none to use again.
Occupancy make_occupancy(std::size_t bits) noexcept;
// Async-signal-safe.
void leave_occupancy(const Occupancy&, std::size_t bits) noexcept;

inline std::uint64_t bit_of(std::size_t bit) noexcept { return std::uint64_t{1} << bit % 64; }

inline bool is_set(const std::atomic<std::uint64_t>* bits, std::size_t bit) noexcept {
    return (bits[bit / 64].load(std::memory_order_seq_cst) & bit_of(bit)) != 0;
}

// Bits that are set already are not written: their line stays in everybody's cache.
inline void set(std::atomic<std::uint64_t>* bits, std::size_t bit) noexcept {
    if (!is_set(bits, bit)) bits[bit / 64].fetch_or(bit_of(bit), std::memory_order_seq_cst);
}
inline void clear(std::atomic<std::uint64_t>* bits, std::size_t bit) noexcept {
    if (is_set(bits, bit)) bits[bit / 64].fetch_and(~bit_of(bit), std::memory_order_seq_cst);
}

// Calls visit(bit) for the bits of [begin, end) that are set, until one returns true.
template <class Visit>
bool any_of_set(const std::atomic<std::uint64_t>* bits, std::size_t begin, std::size_t end, Visit&& visit) {
    for (std::size_t word = begin / 64; word * 64 < end; ++word) {
        std::uint64_t left = bits[word].load(std::memory_order_relaxed);
        if (word == begin / 64) left &= ~std::uint64_t{0} << begin % 64;
        if ((word + 1) * 64 > end) left &= (std::uint64_t{1} << end % 64) - 1;
        for (; left != 0; left &= left - 1)
            if (visit(word * 64 + static_cast<std::size_t>(std::countr_zero(left)))) return true;
    }
    return false;
}

// A place in an order in which neighbours lie together, and the ranges of those that share its cache and its node.
struct Surroundings {
    std::size_t own, cache_begin, cache_end, node_begin, node_end, all;
};

// Whether any bit but `own` is set. What a miss asks most often: a loop over few words, without a branch for each range.
inline bool any_but(const std::atomic<std::uint64_t>* bits, std::size_t own, std::size_t all) noexcept {
    std::uint64_t found = 0;
    for (std::size_t word = 0; word * 64 < all; ++word)
        found |= bits[word].load(std::memory_order_relaxed) & (word == own / 64 ? ~bit_of(own) : ~std::uint64_t{0});
    return found != 0;
}

// The set bits but `own`, near ones first.
template <class Visit>
bool any_of_nearest(const std::atomic<std::uint64_t>* bits, const Surroundings& of, Visit&& visit) {
    return any_of_set(bits, of.own + 1, of.cache_end, visit) || any_of_set(bits, of.cache_begin, of.own, visit) ||
           any_of_set(bits, of.cache_end, of.node_end, visit) || any_of_set(bits, of.node_begin, of.cache_begin, visit) ||
           any_of_set(bits, of.node_end, of.all, visit) || any_of_set(bits, 0, of.node_begin, visit);
}

}  // namespace dynfunc
