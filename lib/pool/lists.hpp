// SPDX-License-Identifier: MIT
// Lists of free objects that every CPU reaches, in two forms; each change is one atomic operation. Pools of few objects have
// sets, the others chains.
#pragma once

#include <atomic>
#include <bit>
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

// What both forms have. The lower part of the head says what is here, and 0 there: nothing; the upper part, how often something
// was taken.
class alignas(64) PoolList {
public:
    std::uint64_t head(std::memory_order order) const noexcept { return head_.load(order); }
    // How often something was taken.
    std::uint64_t takes(unsigned lower_bits) const noexcept {
        return (wraps_.load(std::memory_order_relaxed) << (64 - lower_bits)) +
               (head_.load(std::memory_order_relaxed) >> lower_bits);
    }

protected:
    // After one took something and left this head.
    void note_take(std::uint64_t head, unsigned lower_bits) noexcept {
        if (head >> lower_bits == 0) [[unlikely]]
            wraps_.fetch_add(1, std::memory_order_relaxed);
    }

    std::atomic<std::uint64_t> head_{0};

private:
    std::atomic<std::uint64_t> wraps_{0};  // how often the upper part began again
};

//     head   bits 0..23   the first item; 0: empty; all ones: closed for good
//            bits 24..63  how often something was taken
//
// Taking changes the upper part, so that a head that is as it was means a list that is as it was, however many came and went
// (R. K. Treiber, "Systems Programming: Coping with Parallelism", 1986; the counter after IBM System/370's manual). Putting
// need not change it: nothing below the first item can have changed unless something was taken.
class PoolChain : public PoolList {
public:
    static constexpr unsigned item_bits = 24;
    static constexpr PoolItem closed_item = (PoolItem{1} << item_bits) - 1;

    // Up to `most` items; count 0: there is none. Threads: any, handlers too.  Blocks: never.
    PoolItems take(PoolLink* links, std::uint64_t most) noexcept;
    // One item; 0: there is none.
    PoolItem take_one(PoolLink* links) noexcept;
    // False: the list is closed, and nothing happened. After true the pool may be gone, if `items` held the last of it.
    [[nodiscard]] bool put(PoolLink* links, const PoolItems& items) noexcept;
    // Nothing is put any more. How many items there were; 0 when closed already.
    std::uint64_t close(const PoolLink* links) noexcept;

private:
    static constexpr std::uint64_t item_mask = (std::uint64_t{1} << item_bits) - 1;
    static PoolItem item_of(std::uint64_t head) noexcept { return head & item_mask; }
};

// Without links: a bit for each object of the pool.
//
//     head   bits 0..30   which items are here
//            bit 31       closed for good
//            bits 32..63  how often something was taken
//
// Scarce objects go from CPU to CPU all the time, and each cache line that goes with them costs more than everything else. A
// pop and a push touch one line here: this word's. (Links of so few objects would all lie in one line, which each CPU writes.)
class PoolSet : public PoolList {
public:
    static constexpr unsigned item_bits = 32;
    static constexpr std::uint64_t most_items = item_bits - 1;

    // `links` is written for more than one item: those that are returned are linked.
    PoolItems take(PoolLink* links, std::uint64_t most) noexcept;
    PoolItem take_one() noexcept;
    [[nodiscard]] bool put(const PoolLink* links, const PoolItems& items) noexcept;
    std::uint64_t close() noexcept;

private:
    static constexpr std::uint64_t closed = std::uint64_t{1} << most_items;
    static constexpr std::uint64_t one_take = std::uint64_t{1} << item_bits;

    static std::uint64_t bit_of(PoolItem item) noexcept { return std::uint64_t{1} << (item - 1); }
    static PoolItem first_in(std::uint64_t items) noexcept { return static_cast<PoolItem>(__builtin_ctzll(items)) + 1; }
    // Something is here, and the set not closed.
    static bool gives(std::uint64_t head) noexcept { return static_cast<std::int32_t>(head) > 0; }
};

// Whether lists with these heads, combined by "or", are empty and not closed.
inline bool are_empty(std::uint64_t heads, bool of_sets) noexcept {
    return heads << (64 - (of_sets ? PoolSet::item_bits : PoolChain::item_bits)) == 0;
}

static_assert(sizeof(PoolChain) == sizeof(PoolList) && sizeof(PoolSet) == sizeof(PoolList));

[[gnu::always_inline]] inline PoolItems PoolChain::take(PoolLink* links, std::uint64_t most) noexcept {
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
        note_take(next, item_bits);
        links[items.last - 1].store(0, std::memory_order_relaxed);
        return items;
    }
}

[[gnu::always_inline]] inline PoolItem PoolChain::take_one(PoolLink* links) noexcept {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // (M)
    for (;;) {
        const PoolItem item = item_of(head);
        if (item == 0 || item == closed_item) return 0;
        const std::uint64_t next = ((head | item_mask) + 1) | links[item - 1].load(std::memory_order_relaxed);
        if (!head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        note_take(next, item_bits);
        return item;
    }
}

[[gnu::always_inline]] inline bool PoolChain::put(PoolLink* links, const PoolItems& items) noexcept {
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    do {
        if (item_of(head) == closed_item) return false;
        links[items.last - 1].store(static_cast<std::uint32_t>(item_of(head)), std::memory_order_relaxed);
        // (M) Also the store before the load in put_at() of pool.cpp (R): a search that does not see this item sees no bit
        // either, or the bit is set again.
    } while (!head_.compare_exchange_weak(head, (head & ~item_mask) | items.first, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
    return true;
}

[[gnu::always_inline]] inline PoolItem PoolSet::take_one() noexcept {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // (M)
    for (;;) {
        if (!gives(head)) return 0;
        const std::uint64_t next = (head & (head - 1)) + one_take;
        if (!head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        note_take(next, item_bits);
        return first_in(head);
    }
}

[[gnu::always_inline]] inline bool PoolSet::put(const PoolLink* links, const PoolItems& items) noexcept {
    std::uint64_t bits = bit_of(items.first);
    for (PoolItem item = items.first; item != items.last; bits |= bit_of(item))
        item = links[item - 1].load(std::memory_order_relaxed);
    // (M) and (R) as in PoolChain::put(). None of these bits is set: adding is one instruction that tells what was there. In a
    // closed set they say nothing any more.
    return (head_.fetch_add(bits, std::memory_order_seq_cst) & closed) == 0;
}

}  // namespace dynfunc
