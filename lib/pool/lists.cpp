// SPDX-License-Identifier: MIT
#include "lists.hpp"

namespace dynfunc {

std::uint64_t PoolChain::close(const PoolLink* links) noexcept {
    PoolItem item = item_of(head_.fetch_or(item_mask, std::memory_order_acq_rel));
    if (item == closed_item) return 0;
    std::uint64_t count = 0;
    for (; item != 0; item = links[item - 1].load(std::memory_order_relaxed)) ++count;
    return count;
}

PoolItems PoolSet::take(PoolLink* links, std::uint64_t most) noexcept {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // (M)
    for (;;) {
        if (!gives(head)) return {};
        PoolItems items{.first = first_in(head)};
        std::uint64_t left = head;
        for (; items.count < most && static_cast<std::uint32_t>(left) != 0; ++items.count) left &= left - 1;
        const std::uint64_t next = left + one_take;
        if (!head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        note_take(next, item_bits);
        items.last = items.first;
        for (std::uint64_t others = (head ^ left) & (head - 1); others != 0; others &= others - 1) {
            const PoolItem item = first_in(others);
            links[items.last - 1].store(static_cast<std::uint32_t>(item), std::memory_order_relaxed);
            items.last = item;
        }
        return items;
    }
}

std::uint64_t PoolSet::close() noexcept {
    const std::uint64_t head = head_.fetch_or(closed, std::memory_order_acq_rel);
    return (head & closed) != 0 ? 0 : static_cast<std::uint64_t>(std::popcount(static_cast<std::uint32_t>(head)));
}

}  // namespace dynfunc
