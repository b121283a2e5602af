// SPDX-License-Identifier: MIT
// Which function is at an address: a table with open addressing, half full at most, that is read at every hit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "at_hit.hpp"

namespace dynfunc::trace {

class FunctionNumbers {
public:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    // Threads: one at a time, while others read.  Throws: std::bad_alloc.
    static void set(std::uintptr_t at, std::uint32_t number);

    // After the first set().
    DYNFUNC_IN_HIT static std::uint32_t at(std::uintptr_t address) noexcept {
        const Table* const table = __atomic_load_n(&table_, __ATOMIC_ACQUIRE);
        for (std::size_t i = Table::hash(address, table->size);; i = (i + 1) & (table->size - 1)) {
            const std::uintptr_t there = __atomic_load_n(&table->entries()[i].at, __ATOMIC_ACQUIRE);
            if (there == address) return __atomic_load_n(&table->entries()[i].number, __ATOMIC_RELAXED);
            if (there == 0) return none;
        }
    }

private:
    struct Table {
        struct Entry {
            std::uintptr_t at;  // 0: free; written last
            std::uint32_t number;
        };
        std::size_t size, used;

        DYNFUNC_IN_HIT Entry* entries() const noexcept { return reinterpret_cast<Entry*>(const_cast<Table*>(this) + 1); }
        DYNFUNC_IN_HIT static std::size_t hash(std::uintptr_t at, std::size_t size) noexcept {
            return ((at * 0x9e37'79b9'7f4a'7c15) >> 20) & (size - 1);  // Knuth, The Art of Computer Programming, 6.4
        }
        void put(std::uintptr_t at, std::uint32_t number) noexcept;
    };

    static Table* table_;  // atomic; those before it stay, for handlers that are in them
};

}  // namespace dynfunc::trace
