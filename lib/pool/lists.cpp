// SPDX-License-Identifier: MIT
#include "lists.hpp"

namespace dynfunc {

PoolItems PoolList::close(PoolLink* links) noexcept {
    const std::uint64_t head = head_.fetch_or(item_mask, std::memory_order_acq_rel);
    PoolItems items{.first = item_of(head), .last = item_of(head), .count = 0};
    if (items.first == closed_item || items.first == 0) return {};
    for (PoolItem item = items.first; item != 0; item = links[item - 1].load(std::memory_order_relaxed)) {
        items.last = item;
        ++items.count;
    }
    return items;
}

std::uint64_t PoolList::takes() const noexcept {
    return (wraps_.load(std::memory_order_relaxed) << (64 - item_bits)) + (head_.load(std::memory_order_relaxed) >> item_bits);
}

}  // namespace dynfunc
