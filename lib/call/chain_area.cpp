// SPDX-License-Identifier: MIT
#include "chain_area.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace dynfunc {
namespace {

constinit ChainArea* free_areas = nullptr;  // of DSOs that have left

}  // namespace

ChainArea* ChainArea::open(AddressRange range) noexcept {
    const std::size_t units = range.size() / unit;
    const std::size_t words = (units + 63) / 64;
    if (units < 2) return nullptr;
    ChainArea* area = nullptr;
    for (ChainArea** link = &free_areas; *link != nullptr; link = &(*link)->next_free_) {
        if ((*link)->capacity_ < units) continue;
        area = *link;
        *link = area->next_free_;
        break;
    }
    if (area == nullptr) {
        void* memory = mmap(nullptr, sizeof(ChainArea) + words * sizeof(std::uint64_t), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return nullptr;
        area = static_cast<ChainArea*>(memory);
        area->capacity_ = words * 64;
        area->generation_ = 1;
    }
    area->range_ = range;
    area->units_ = units;
    std::fill_n(area->used(), words, 0);
    return area;
}

void ChainArea::close() noexcept {
    ++generation_;
    next_free_ = free_areas;
    free_areas = this;
}

void ChainArea::mark(std::size_t first, std::size_t count, bool used) noexcept {
    for (std::size_t i = first; i < first + count; ++i) {
        const std::uint64_t bit = std::uint64_t{1} << (i % 64);
        std::uint64_t& word = this->used()[i / 64];
        word = used ? word | bit : word & ~bit;
    }
}

// First fit: chains are made and dropped rarely, and an area holds some thousand units.
ChainBlock ChainArea::allocate(std::size_t bytes) noexcept {
    const std::size_t wanted = (bytes + unit - 1) / unit;
    std::size_t run = 0;
    for (std::size_t i = 0; i < units_; ++i) {
        run = is_used(i) ? 0 : run + 1;
        if (run < wanted) continue;
        const std::size_t first = i + 1 - wanted;
        mark(first, wanted, true);
        return {this, generation_, static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(wanted)};
    }
    return {};
}

void ChainArea::trim(ChainBlock& block, std::size_t bytes) noexcept {
    const auto needed = static_cast<std::uint32_t>((bytes + unit - 1) / unit);
    block.area->mark(block.first + needed, block.units - needed, false);
    block.units = needed;
}

void ChainArea::release(const ChainBlock& block) noexcept {
    if (block.area != nullptr && block.area->generation_ == block.generation) block.area->mark(block.first, block.units, false);
}

}  // namespace dynfunc
