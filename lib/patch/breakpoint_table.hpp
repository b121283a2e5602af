// SPDX-License-Identifier: MIT
// Where threads go on that run a breakpoint: a table with open addressing. When it is half full, a larger one takes its place.
// Entries are only added, and change by one store: whoever searches takes no lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dynfunc {

struct BreakpointTable {
    struct Place {
        std::atomic<std::uintptr_t> at;  // 0: free; entered last
        std::atomic<std::uint64_t> resume;
    };

    static constexpr std::size_t smallest = 256, growth = 4;

    std::size_t size, used;  // a power of two
    bool is_full() const noexcept { return 2 * used >= size; }
    static constexpr std::size_t bytes(std::size_t size) noexcept { return sizeof(BreakpointTable) + size * sizeof(Place); }
    Place* places() noexcept { return reinterpret_cast<Place*>(this + 1); }

    // Where it is, or would be.
    [[gnu::always_inline]] Place& place_of(std::uintptr_t at) noexcept {
        constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;  // Knuth, The Art of Computer Programming, 6.4
        std::size_t i = static_cast<std::size_t>((at * golden) >> 20) & (size - 1);
        for (;; i = (i + 1) & (size - 1)) {
            const std::uintptr_t there = places()[i].at.load(std::memory_order_acquire);
            if (there == at || there == 0) return places()[i];
        }
    }
    // Whether it was known, and led elsewhere.  Threads: one at a time.
    bool put(std::uintptr_t at, std::uint64_t resume) noexcept {
        Place& place = place_of(at);
        const std::uint64_t before = place.resume.load(std::memory_order_relaxed);
        place.resume.store(resume, std::memory_order_release);
        if (place.at.load(std::memory_order_relaxed) == at) return before != resume;
        place.at.store(at, std::memory_order_release);
        ++used;
        return false;
    }
    // 0: it is not there.
    [[gnu::always_inline]] std::uint64_t find(std::uintptr_t at) noexcept {
        const Place& place = place_of(at);
        if (place.at.load(std::memory_order_relaxed) != at) return 0;
        return place.resume.load(std::memory_order_acquire);
    }
};

}  // namespace dynfunc
