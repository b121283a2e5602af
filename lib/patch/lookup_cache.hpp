// SPDX-License-Identifier: MIT
// A cache of 4096 sets of 4 entries in front of a lookup: 272 KB, for one CPU. An option that is off by default, because the
// table behind it is as fast (bench many_probes; docs/decisions/0012-probe-cache.md).
//
// Threads: any, also handlers that interrupt each other in the middle of either function; takes no lock. The threads of a CPU
// share it, and one that has moved on to another CPU still uses it.
//
//     put     marks the set (one at a time, others leave it)   invalidates the entry   value   key   marks the end
//     find    reads the mark, the key, the value, and the mark again: a set that was written meanwhile is not believed
//
// The mark counts how often the set was written, as a sequence lock's number does (Boehm, "Can Seqlocks Get Along With
// Programming Language Memory Models?", 2012): 2^29 times in the middle of one find() would be needed to deceive it.
//
// What is known of all addresses changes with `generation`: entries of others are none, so that one store forgets everything
// everywhere.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dynfunc {

class LookupCache {
public:
    static constexpr std::size_t sets = 4096, ways = 4;
    // Of addresses, and of generations, more is not cached.
    static constexpr unsigned address_bits = 48, generation_bits = 64 - address_bits;

    // False: it has to be looked up.
    [[gnu::always_inline]] bool find(std::uint64_t at, std::uint64_t generation, std::uint64_t& value) const noexcept {
        const std::size_t set = set_of(at);
        const std::uint64_t key = key_of(at, generation);
        // (X) A load that acquires stays before those behind it: the entry's before the second look at the mark.
        const std::uint32_t mark = marks_[set].load(std::memory_order_acquire);
        if (key == 0 || (mark & is_written) != 0) return false;
        for (const Entry& entry : entries_[set]) {
            if (entry.key.load(std::memory_order_acquire) != key) continue;
            value = entry.value.load(std::memory_order_acquire);
            return marks_[set].load(std::memory_order_relaxed) == mark;
        }
        return false;
    }

    // `generation` was read before the value was looked up. Takes the place of the entry that was put longest ago.
    [[gnu::always_inline]] void put(std::uint64_t at, std::uint64_t generation, std::uint64_t value) noexcept {
        const std::size_t set = set_of(at);
        const std::uint64_t key = key_of(at, generation);
        std::uint32_t mark = marks_[set].load(std::memory_order_relaxed);
        if (key == 0 || (mark & is_written) != 0 ||
            !marks_[set].compare_exchange_strong(mark, mark | is_written, std::memory_order_acquire, std::memory_order_relaxed))
            return;
        bool is_there = false;
        for (const Entry& entry : entries_[set]) is_there = is_there || entry.key.load(std::memory_order_relaxed) == key;
        if (!is_there) {
            Entry& entry = entries_[set][mark % ways];
            // (X) Each store that releases stays behind those before it, the first one behind the mark.
            entry.key.store(0, std::memory_order_release);
            entry.value.store(value, std::memory_order_release);
            entry.key.store(key, std::memory_order_release);
        }
        const std::uint32_t next = is_there ? mark % ways : (mark + 1) % ways;
        marks_[set].store(((mark & ~(one_time - 1)) + one_time) | next, std::memory_order_release);
    }

private:
    struct Entry {
        std::atomic<std::uint64_t> key, value;
    };
    // Of a mark: the way that is replaced next, whether somebody writes, how often it was written.
    static constexpr std::uint32_t is_written = ways, one_time = 2 * ways;

    [[gnu::always_inline]] static std::size_t set_of(std::uint64_t at) noexcept {
        constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;  // Knuth, The Art of Computer Programming, 6.4
        constexpr unsigned set_bits = 12;
        static_assert(sets == 1 << set_bits);
        return static_cast<std::size_t>((at * golden) >> (64 - set_bits));
    }
    // 0: not to be cached.
    [[gnu::always_inline]] static std::uint64_t key_of(std::uint64_t at, std::uint64_t generation) noexcept {
        return at >> address_bits != 0 || generation >> generation_bits != 0 ? 0 : at | generation << address_bits;
    }

    Entry entries_[sets][ways];
    std::atomic<std::uint32_t> marks_[sets];
};
static_assert(sizeof(LookupCache) == 272 * 1024);

}  // namespace dynfunc
