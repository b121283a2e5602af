// SPDX-License-Identifier: MIT
// What a pool consists of. In one piece of memory:
//
//     Pool                    constants, and the little that is counted for the whole pool
//     a block for each CPU    PoolStack and its slots: objects in reach of one CPU's threads
//     PoolList...             objects in reach of all; one for each CPU, or fewer where objects are few
//     PoolLink...             one for each object
//     bits                    one for each object, where pushes are checked: whether it is out
//
// and in another one the objects. Invariants:
//
//     INV-one-place    an object is in one slot, in one list, out, or in the hands of one thread inside pop() or push()
//     INV-gate         whoever shuts, empties or opens a stack holds its gate; nobody waits for one but close()
//     INV-out-keeps    `left` counts the objects that are in no place of a closed pool, and the handle; whoever takes
//                      it to zero frees the pool. So who holds an object may use the pool, until the object is in its place
#pragma once

#include <dynfunc/object_pool.hpp>

#include <atomic>
#include <bit>

#include "lists.hpp"
#include "occupancy.hpp"
#include "sequences.hpp"
#include "topology.hpp"

namespace dynfunc {

struct alignas(64) Pool : detail::PoolCore {
    std::byte* objects;
    PoolLink* links;
    PoolList* lists;
    const Topology* topology;
    std::uint64_t inverse;  // of the odd part of the stride: turns an offset into a number

    Occupancy occupancy;
    std::uint32_t stride, capacity;
    std::uint32_t cpus, list_count;
    std::uint32_t spread_over;  // positions that share the lists out between them
    std::uint8_t shift;         // of the even part of the stride
    std::uint8_t alignment;     // of the objects, as a power of two
    PoolBackEnd back_end;
    bool has_sequences, checked, huge_pages;
    bool has_sets;  // the lists are sets, otherwise chains
    bool is_small;  // few lists and few CPUs: a glance at each is cheaper than bits that say which are worth one
    std::atomic<bool> is_closed;
    const char* reason;

    std::atomic<std::uint64_t> left;
    std::atomic<std::uint64_t> spilled;                     // popped from a stack to be put into a list
    std::atomic<std::uint64_t> drained;                     // handed out from a stack of another CPU
    std::atomic<std::uint64_t> stray_misses, stray_steals;  // of threads that could not count on their CPU
    void* memory;
    void (*deallocate)(void* memory, void* at, std::size_t bytes, std::size_t alignment) noexcept;
    void (*destroy)(void* object) noexcept;

    static Pool& of(detail::PoolCore& core) noexcept { return static_cast<Pool&>(core); }
    static const Pool& of(const detail::PoolCore& core) noexcept { return static_cast<const Pool&>(core); }

    // pool.cpp
    std::uint64_t close() noexcept;
    void returned(std::uint64_t count) noexcept;  // to a closed pool

    // create_pool.cpp
    void free() noexcept;

    // Those of a pool of this shape. `in_order`: every CPU's list has its number.
    const detail::PoolWays* choose_ways(bool in_order) const noexcept;

    // stacks.cpp
    // Empties the stacks of other CPUs, nearest first, until one gave something.
    PoolItems drain_nearest(unsigned cpu) noexcept;
    // Whether pop and push try their sequences at all.
    void try_sequences(bool which) noexcept {
        const std::ptrdiff_t wanted = which ? cpu_area : 0;
        if (const std::atomic_ref now(area); now.load(std::memory_order_relaxed) != wanted)
            now.store(wanted, std::memory_order_relaxed);
    }
    // Opens a stack after a quiet time. Returns whether it is open now.
    bool open_stack(unsigned cpu) noexcept;
    // Shuts every stack for good and empties it. Returns how many objects lay there.
    std::uint64_t close_stacks() noexcept;

    detail::PoolStack& stack(unsigned cpu) const noexcept {
        auto* first = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(this)) + detail::pool_core_bytes;
        return *reinterpret_cast<detail::PoolStack*>(first + cpu * block_bytes);
    }
    detail::PoolCounts& counts(detail::PoolStack& stack) const noexcept {
        auto* end = reinterpret_cast<std::byte*>(&stack) + block_bytes;
        return *reinterpret_cast<detail::PoolCounts*>(end - sizeof(detail::PoolCounts));
    }
    static void** slots(detail::PoolStack& stack) noexcept {
        return reinterpret_cast<void**>(reinterpret_cast<std::byte*>(&stack) + detail::pool_stack_slots);
    }

    std::byte* object(PoolItem item) const noexcept { return objects + (item - 1) * stride; }
    // More than `capacity` for every pointer that is no object of this pool: rotating and multiplying by an odd number lose
    // nothing, so that no other offset leads to the same number.
    std::uint64_t item(const void* object) const noexcept {
        const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(object) - objects);
        return std::rotr(offset, shift) * inverse + 1;
    }
    std::uint32_t list_at(std::uint32_t position) const noexcept {
        if (list_count == spread_over) return position < list_count ? position : position % list_count;
        return static_cast<std::uint32_t>(std::uint64_t{position} * list_count / spread_over) % list_count;
    }

    // Lists, where it is not known beforehand which form they have.
    PoolSet& set(std::uint32_t list) const noexcept { return static_cast<PoolSet&>(lists[list]); }
    PoolChain& chain(std::uint32_t list) const noexcept { return static_cast<PoolChain&>(lists[list]); }
    PoolItems take(std::uint32_t list, std::uint64_t most) noexcept {
        return has_sets ? set(list).take(links, most) : chain(list).take(links, most);
    }
    PoolItem take_one(std::uint32_t list) noexcept { return has_sets ? set(list).take_one() : chain(list).take_one(links); }
    [[nodiscard]] bool put(std::uint32_t list, const PoolItems& items) noexcept {
        return has_sets ? set(list).put(links, items) : chain(list).put(links, items);
    }
    std::uint64_t close(std::uint32_t list) noexcept { return has_sets ? set(list).close() : chain(list).close(links); }
    std::uint64_t takes(std::uint32_t list) const noexcept {
        return lists[list].takes(has_sets ? PoolSet::item_bits : PoolChain::item_bits);
    }

    // Checked pools: a bit for each object.
    std::atomic<std::uint64_t>* out() const noexcept {
        constexpr std::size_t links_of_a_word = sizeof(std::uint64_t) / sizeof(PoolLink);
        return reinterpret_cast<std::atomic<std::uint64_t>*>(links + (capacity + 1) / links_of_a_word * links_of_a_word);
    }

    // Where bits of empty lists are cleared, the set ones are worth a look.
    bool clears_bits() const noexcept { return list_count > 8; }
};
static_assert(sizeof(Pool) == detail::pool_core_bytes);

// A stack that was emptied from outside stays shut until so many operations in a row met no miss on its CPU: each emptying is
// paid for by as many on the lists. One that was never used is opened by the first.
inline constexpr std::uint64_t pool_quiet_enough = 512;
inline constexpr std::uint64_t pool_gate_shut = 1;  // PoolStack::gate: nobody holds it, the stack is shut

// A stack's top, which sequences store and others change under the stack's gate.
inline std::atomic_ref<std::uint64_t> top_of(detail::PoolStack& stack) noexcept { return std::atomic_ref(stack.top); }
inline std::uint64_t top_now(const detail::PoolStack& stack) noexcept {
    return top_of(const_cast<detail::PoolStack&>(stack)).load(std::memory_order_relaxed);
}
inline bool is_shut(std::uint64_t top) noexcept { return (top & detail::pool_stack_shut) != 0; }
inline std::uint64_t count_in(std::uint64_t top) noexcept { return top & detail::pool_stack_count; }

// An operation met a shut stack. Whether it stays shut; inexact where two threads of the CPU count, and need not be exact.
inline bool stays_shut(detail::PoolCounts& counts) noexcept {
    const std::atomic_ref quiet(counts.quiet);
    const std::uint64_t operations = quiet.load(std::memory_order_relaxed) + 1;
    quiet.store(operations, std::memory_order_relaxed);
    return operations < pool_quiet_enough;
}

// After a miss.
inline void begin_quiet(detail::PoolCounts& counts) noexcept {
    const std::atomic_ref quiet(counts.quiet);
    if (quiet.load(std::memory_order_relaxed) != 0) quiet.store(0, std::memory_order_relaxed);
}

// The bytes of one CPU's block in a pool of `capacity` objects: what the allowance leaves, and no more than the limit needs.
struct PoolShape {
    std::size_t block_bytes, limit, list_count;
};
PoolShape shape_of(std::size_t capacity, std::size_t cpus, std::size_t online, PoolBackEnd back_end) noexcept;
std::size_t overhead_of(const PoolShape&, std::size_t capacity, std::size_t cpus, bool checked) noexcept;

// As detail::create_pool(), on a machine of this shape. `topology` outlives the pool.
Result<Pool*> create_pool_on(const Topology& topology, std::size_t online, const detail::PoolPlan& plan);

// Which bytes of `bytes`, shared out evenly over the positions of the CPUs, belong on which node: an array's pages before they
// are first touched. Calls place(begin, end, node).
template <class Place>
void for_each_node(const Topology& topology, std::size_t bytes, Place&& place) {
    const std::size_t cpus = topology.at.size();
    for (std::size_t position = 0; position < cpus;) {
        const Topology::Cpu& cpu = topology.cpus[topology.at[position]];
        place(bytes * cpu.node_begin / cpus, bytes * cpu.node_end / cpus, topology.nodes[cpu.node]);
        position = cpu.node_end;
    }
}

}  // namespace dynfunc
