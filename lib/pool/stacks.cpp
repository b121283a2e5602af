// SPDX-License-Identifier: MIT
// Shutting, emptying and opening the stack of a CPU from another one.
//
//     gate       open, shut, closed for good, or locked by a thread of this process
//     to shut    1. the gate, by one attempt
//                2. top: set the bit "shut" (N)
//                3. interrupt the sequences of that CPU (O)
//                4. top: is the bit still there?  otherwise again from 2
//                5. slots and top belong to this thread alone
//
// A sequence that had read `top` before 2 ends in a plain store, which may undo 2. It cannot do so after 3, and 4 sees whether
// it did before. One that reads `top` after 2 finds it shut and changes nothing. 5 lasts until the gate's holder stores a `top`
// without the bit.
#include "pool.hpp"
#include "sequences.hpp"

#include <sched.h>

namespace dynfunc {
namespace {

using detail::PoolStack;

constexpr std::uint64_t gate_open = 0, gate_shut = pool_gate_shut, gate_locked = 2, gate_closed = 3;
constexpr unsigned gate_bits = 2;
constexpr std::uint64_t gate_state = (1 << gate_bits) - 1;

std::uint64_t locked_by_us() noexcept { return process_generation() << gate_bits | gate_locked; }

// Locked by a thread that stayed behind in the process that this one was copied from.
bool is_abandoned(std::uint64_t gate) noexcept { return (gate & gate_state) == gate_locked && gate != locked_by_us(); }

std::atomic_ref<std::uint64_t> gate_of(PoolStack& stack) noexcept { return std::atomic_ref(stack.gate); }

// (P) acquire and release: the holder's view of the stack goes from one to the next.
bool try_lock(PoolStack& stack, std::uint64_t seen) noexcept {
    return gate_of(stack).compare_exchange_strong(seen, locked_by_us(), std::memory_order_acquire, std::memory_order_relaxed);
}
void unlock(PoolStack& stack, std::uint64_t gate) noexcept { gate_of(stack).store(gate, std::memory_order_release); }

// Steps 2 to 4. The gate is held. False: the system refuses to interrupt that CPU, and the stack is open as before.
bool shut(PoolStack& stack, unsigned cpu) noexcept {
    const auto top = top_of(stack);
    do {
        top.fetch_or(detail::pool_stack_shut, std::memory_order_seq_cst);  // (N)
        if (interrupt_sequences(cpu) != 0) {                               // (O)
            top.fetch_and(~detail::pool_stack_shut, std::memory_order_relaxed);
            return false;
        }
    } while (!is_shut(top.load(std::memory_order_relaxed)));
    return true;
}

// Step 5: takes everything out of a stack that is shut.
PoolItems empty(const Pool& pool, PoolStack& stack) noexcept {
    const std::uint64_t top = top_of(stack).load(std::memory_order_relaxed);
    void** slots = Pool::slots(stack);
    PoolItems items;
    for (std::uint64_t i = 0; i < count_in(top); ++i) {
        const PoolItem item = pool.item(slots[i]);
        pool.links[item - 1].store(static_cast<std::uint32_t>(items.first), std::memory_order_relaxed);
        items.first = item;
        if (items.last == 0) items.last = item;
    }
    items.count = count_in(top);
    top_of(stack).store(top & ~detail::pool_stack_count, std::memory_order_relaxed);
    return items;
}

PoolItems drain(Pool& pool, unsigned cpu) noexcept {
    notice_new_process();
    PoolStack& stack = pool.stack(cpu);
    const std::uint64_t gate = gate_of(stack).load(std::memory_order_relaxed);
    if (gate != gate_open && !is_abandoned(gate)) return {};
    if (!try_lock(stack, gate)) return {};
    if (!shut(stack, cpu)) {
        unlock(stack, gate_open);
        return {};
    }
    const PoolItems items = empty(pool, stack);
    clear(pool.occupancy.open, pool.topology->cpus[cpu].position);
    std::atomic_ref(pool.counts(stack).quiet).store(0, std::memory_order_relaxed);
    unlock(stack, gate_shut);
    // (A stack that is opened at this moment may be missed; whoever next finds it open says so again.)
    if (!any_but(pool.occupancy.open, pool.cpus, pool.cpus)) pool.try_sequences(false);
    return items;
}

}  // namespace

PoolItems Pool::drain_nearest(unsigned cpu) noexcept {
    const Topology::Cpu& here = topology->cpus[cpu];
    PoolItems items;
    if (any_but(occupancy.open, here.position, cpus))
        any_of_nearest(occupancy.open,
                       {here.position, here.cache_begin, here.cache_end, here.node_begin, here.node_end, topology->at.size()},
                       [&](std::size_t position) {
                           const unsigned other = topology->at[position];
                           if (count_in(top_now(stack(other))) == 0) return false;
                           items = drain(*this, other);
                           return items.count != 0;
                       });
    // What a thread without sequences has on its own CPU is as far away as on any other.
    if (items.count == 0 && count_in(top_now(stack(cpu))) != 0) items = drain(*this, cpu);
    return items;
}

bool Pool::open_stack(unsigned cpu) noexcept {
    PoolStack& of = stack(cpu);
    notice_new_process();
    const std::uint64_t gate = gate_of(of).load(std::memory_order_relaxed);
    if ((gate != gate_shut && !is_abandoned(gate)) || !try_lock(of, gate)) return false;
    std::atomic_ref(counts(of).quiet).store(0, std::memory_order_relaxed);
    dynfunc::set(occupancy.open, topology->cpus[cpu].position);
    const auto top = top_of(of);
    // (Q) release: sequences that find it open find it as it was left, whoever emptied it. (Of a gate that was abandoned:
    // perhaps with objects in it, which then nobody else has.)
    top.store(top.load(std::memory_order_relaxed) & ~detail::pool_stack_shut, std::memory_order_release);
    unlock(of, gate_open);
    try_sequences(true);
    return true;
}

std::uint64_t Pool::close_stacks() noexcept {
    notice_new_process();
    std::uint64_t found = 0;
    for (unsigned cpu = 0; cpu < cpus; ++cpu) {
        PoolStack& of = stack(cpu);
        for (;;) {
            const std::uint64_t gate = gate_of(of).load(std::memory_order_relaxed);
            if ((gate == gate_open || gate == gate_shut || is_abandoned(gate)) && try_lock(of, gate)) break;
            sched_yield();  // its holder is in the middle of drain() or open_stack()
        }
        // Refused: nobody can say what lies there. It is never counted, and the pool never freed.
        if (!has_sequences || shut(of, cpu)) found += empty(*this, of).count;
        unlock(of, gate_closed);
    }
    return found;
}

}  // namespace dynfunc
