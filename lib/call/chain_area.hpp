// SPDX-License-Identifier: MIT
// The room for generated code in one DSO (section dynfunc_chains), handed out in units of 16 bytes.
#pragma once

#include <dynfunc/address.hpp>

#include <cstdint>

namespace dynfunc {

class ChainArea;

// A piece of an area. Empty: of nothing.
struct ChainBlock {
    ChainArea* area = nullptr;
    std::uint32_t generation = 0;  // of the area; another one: its DSO is gone, and with it the code
    std::uint32_t first = 0, units = 0;

    explicit operator bool() const noexcept { return area != nullptr; }
};

// Threads: the text lock is held around every call. Never freed: what was retired before its DSO left may still name it.
class ChainArea {
public:
    static constexpr std::size_t unit = 16;

    // For the area of a DSO that arrives. Null: no memory, or no room.
    static ChainArea* open(AddressRange range) noexcept;
    // Its DSO leaves.
    void close() noexcept;

    // Empty: no run of free units is long enough.
    ChainBlock allocate(std::size_t bytes) noexcept;
    // Only so many bytes of it are needed.
    static void trim(ChainBlock& block, std::size_t bytes) noexcept;
    static void release(const ChainBlock& block) noexcept;
    static Address address_of(const ChainBlock& block) noexcept {
        return block.area->range_.begin + static_cast<std::ptrdiff_t>(block.first * unit);
    }

private:
    // One bit a unit, behind this.
    std::uint64_t* used() noexcept { return reinterpret_cast<std::uint64_t*>(this + 1); }
    bool is_used(std::size_t index) noexcept { return (used()[index / 64] >> (index % 64) & 1) != 0; }
    void mark(std::size_t first, std::size_t count, bool used) noexcept;

    AddressRange range_;
    std::size_t units_, capacity_;
    std::uint32_t generation_;
    ChainArea* next_free_;
};

}  // namespace dynfunc
