// SPDX-License-Identifier: MIT
// Lists of free objects that every CPU reaches: stacks of numbers with one compare-and-swap for each change.
#pragma once

#include <atomic>
#include <cstdint>

namespace dynfunc {

// An object's number in its pool, plus one; 0 is none. (Words: halves that are stored singly and loaded together wait for the
// store buffer, which takes longer than the compare-and-swap.)
using PoolItem = std::uint64_t;

// Several, linked.
struct PoolItems {
    PoolItem first = 0, last = 0;
    std::uint64_t count = 0;
};

// The links lie beside the objects, one word for each: who walks a list may read the link of an object that was handed out
// meanwhile, and finds some object's number there, never a user's bytes.
using PoolLink = std::atomic<std::uint32_t>;

//     head   bits 0..23   the first item; 0: empty; all ones: closed for good
//            bits 24..63  how often something was taken
//
// Taking changes the upper part, so that a head that is as it was means a list that is as it was, however many came and went
// (R. K. Treiber, "Systems Programming: Coping with Parallelism", 1986; the counter after IBM System/370's manual). Putting
// need not change it: nothing below the first item can have changed unless something was taken.
class alignas(64) PoolList {
public:
    static constexpr std::uint64_t item_bits = 24;
    static constexpr PoolItem closed_item = (PoolItem{1} << item_bits) - 1;

    // Up to `most` items; count 0: there is none. Threads: any, handlers too.  Blocks: never.
    PoolItems take(PoolLink* links, std::uint64_t most) noexcept;
    // One item; 0: there is none.
    PoolItem take_one(PoolLink* links) noexcept;
    // False: the list is closed, and nothing happened. After true the pool may be gone, if `items` held the last of it.
    [[nodiscard]] bool put(PoolLink* links, const PoolItems& items) noexcept;
    // Everything, with nothing to be put any more.
    PoolItems close(PoolLink* links) noexcept;

    bool is_empty(std::memory_order order = std::memory_order_seq_cst) const noexcept {
        return item_of(head_.load(order)) == 0;
    }
    // How often take() gave something.
    std::uint64_t takes() const noexcept;

private:
    static constexpr std::uint64_t item_mask = (std::uint64_t{1} << item_bits) - 1;
    static PoolItem item_of(std::uint64_t head) noexcept { return head & item_mask; }

    std::atomic<std::uint64_t> head_{0};
    std::atomic<std::uint64_t> wraps_{0};  // how often the upper part began again
};

[[gnu::always_inline]] inline PoolItems PoolList::take(PoolLink* links, std::uint64_t most) noexcept {
    // (M) pairs with the store in put(): the links and the objects are seen as they were left.
    std::uint64_t head = head_.load(std::memory_order_acquire);
    for (;;) {
        PoolItems items{.first = item_of(head), .last = item_of(head), .count = 1};
        if (items.first == 0 || items.first == closed_item) return {};
        PoolItem rest = links[items.first - 1].load(std::memory_order_relaxed);
        for (; items.count < most && rest != 0; ++items.count) {
            items.last = rest;
            rest = links[rest - 1].load(std::memory_order_relaxed);
        }
        const std::uint64_t next = ((head | item_mask) + 1) | rest;
        if (!head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        if (next >> item_bits == 0) wraps_.fetch_add(1, std::memory_order_relaxed);
        links[items.last - 1].store(0, std::memory_order_relaxed);
        return items;
    }
}

[[gnu::always_inline]] inline PoolItem PoolList::take_one(PoolLink* links) noexcept {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // (M)
    for (;;) {
        const PoolItem item = item_of(head);
        if (item == 0 || item == closed_item) return 0;
        const std::uint64_t next = ((head | item_mask) + 1) | links[item - 1].load(std::memory_order_relaxed);
        if (!head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        if (next >> item_bits == 0) [[unlikely]]
            wraps_.fetch_add(1, std::memory_order_relaxed);
        return item;
    }
}

[[gnu::always_inline]] inline bool PoolList::put(PoolLink* links, const PoolItems& items) noexcept {
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    do {
        if (item_of(head) == closed_item) return false;
        links[items.last - 1].store(static_cast<std::uint32_t>(item_of(head)), std::memory_order_relaxed);
        // (M) Also the store before the load in put() of pool.cpp (R): a search that does not see this item sees no bit either,
        // or the bit is set again.
    } while (!head_.compare_exchange_weak(head, (head & ~item_mask) | items.first, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
    return true;
}

}  // namespace dynfunc
