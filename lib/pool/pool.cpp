// SPDX-License-Identifier: MIT
// The half of pop and push that is not inline: this CPU's stack has nothing, is full, is shut, or there are no sequences.
#include "pool.hpp"

#include "fatal.hpp"
#include "sequences.hpp"

namespace dynfunc {
namespace {

using detail::PoolCounts;
using detail::Restartable;

// A sequence that was interrupted is tried again so often; a debugger that steps through it interrupts each.
constexpr int attempts = 4;

unsigned cpu_in(const Pool& pool) noexcept {
    const unsigned cpu = recent_cpu();
    return cpu < pool.cpus ? cpu : cpu % pool.cpus;
}

// Counts on this CPU, which nobody else does at the same time; a thread without sequences counts for the whole pool.
[[gnu::always_inline]] inline void count(Pool& pool, std::size_t word, std::atomic<std::uint64_t>& stray) noexcept {
    const std::ptrdiff_t area = cpu_area;
    if (area == 0 || !Restartable::count(pool, area, pool.counts_at() + word)) [[unlikely]]
        stray.fetch_add(1, std::memory_order_relaxed);
}

[[gnu::always_inline]] inline void* miss(Pool& pool, unsigned cpu) noexcept {
    const std::atomic_ref quiet(pool.stack(cpu).quiet);
    if (quiet.load(std::memory_order_relaxed) != 0) quiet.store(0, std::memory_order_relaxed);
    count(pool, offsetof(PoolCounts, misses), pool.stray_misses);
    return nullptr;
}

// What this thread has linked, or one object, into the list of its CPU. The pool may be gone afterwards.
[[gnu::always_inline]] inline void put(Pool& pool, unsigned cpu, const PoolItems& items) noexcept {
    const std::uint32_t list = pool.list_of(cpu);
    std::atomic<std::uint64_t>* const filled = pool.occupancy.filled;
    const bool clears_bits = pool.clears_bits();
    if (!pool.lists[list].put(pool.links, items))
        pool.returned(items.count);
    else if (clears_bits)
        set(filled, list);
}

// Several objects that were taken at once: the first for the caller, the others to where this CPU finds them.
void* keep_first(Pool& pool, unsigned cpu, PoolItems items) noexcept {
    void* const object = pool.object(items.first);
    if (--items.count == 0) return object;
    items.first = pool.links[items.first - 1].load(std::memory_order_relaxed);
    if (pool.has_sequences) {
        while (items.count != 0) {
            const PoolItem next = pool.links[items.first - 1].load(std::memory_order_relaxed);
            if (!Restartable::push(pool, pool.object(items.first))) break;
            items.first = next;
            --items.count;
        }
    }
    if (items.count != 0) put(pool, cpu, items);
    return object;
}

// What the other lists hold, nearest first.
PoolItems take_from_others(Pool& pool, unsigned cpu, std::uint32_t own, std::uint64_t most) noexcept {
    if (!pool.clears_bits()) {
        for (std::uint32_t step = 1, list = own; step < pool.list_count; ++step) {
            if (++list == pool.list_count) list = 0;
            if (const PoolItems items = pool.lists[list].take(pool.links, most); items.count != 0) return items;
        }
        return {};
    }
    const Topology::Cpu& here = pool.topology->cpus[cpu];
    PoolItems items;
    const auto list_after = [&](std::uint32_t position) -> std::size_t { return pool.list_at(position - 1) + std::size_t{1}; };
    any_of_nearest(pool.occupancy.filled,
                   {own, pool.list_at(here.cache_begin), list_after(here.cache_end), pool.list_at(here.node_begin),
                    list_after(here.node_end), pool.list_count},
                   [&](std::size_t list) {
                       items = pool.lists[list].take(pool.links, most);
                       if (items.count != 0) return true;
                       // (R) pairs with put(): either whoever puts next sees the bit gone, or its item is seen here.
                       clear(pool.occupancy.filled, list);
                       if (!pool.lists[list].is_empty()) set(pool.occupancy.filled, list);
                       return false;
                   });
    return items;
}

std::atomic<std::uint64_t>& out_bits(const Pool& pool, std::uint64_t item) noexcept { return pool.out[(item - 1) / 64]; }

// A CPU whose stack is open, but empty or interrupted: fills it to the half from the list that is its own.
[[gnu::noinline]] void* pop_to_open_stack(Pool& pool, unsigned cpu) noexcept {
    for (int i = 0; i < attempts; ++i) {
        const std::uint64_t top = top_now(pool, cpu);
        void* object;
        if (is_shut(top) || count_in(top) == 0) break;
        if (Restartable::pop(pool, object)) return object;
    }
    const PoolItems items = pool.lists[pool.list_of(cpu)].take(pool.links, pool.limit / 2 + 1);
    return items.count != 0 ? keep_first(pool, cpu, items) : nullptr;
}

// Neither this CPU's stack nor its list has anything.
[[gnu::noinline]] void* pop_from_others(Pool& pool, unsigned cpu) noexcept {
    // To work on the lists: one more than is needed, so as not to come again soon.
    constexpr std::uint64_t most_stolen = 2;
    const bool fills_stack = pool.has_sequences && !is_shut(top_now(pool, cpu));
    PoolItems items;
    if (pool.list_count > 1)
        items = take_from_others(pool, cpu, pool.list_of(cpu), fills_stack ? pool.limit / 2 + 1 : most_stolen);
    if (items.count == 0 && pool.has_sequences) {
        items = pool.drain_nearest(cpu);
        if (items.count != 0) pool.drained.fetch_add(1, std::memory_order_relaxed);
    }
    if (items.count != 0) {
        count(pool, offsetof(PoolCounts, steals), pool.stray_steals);
        return keep_first(pool, cpu, items);
    }
    return miss(pool, cpu);
}

// Whether a pool on a small machine has nothing anywhere, on a first look: a miss is to cost no more than it must.
[[gnu::always_inline]] inline bool looks_empty(const Pool& pool, unsigned cpu) noexcept {
    if (!pool.lists[pool.list_of(cpu)].is_empty(std::memory_order_relaxed) || !pool.is_small) return false;
    for (std::uint32_t list = 0; list < pool.list_count; ++list)
        if (!pool.lists[list].is_empty(std::memory_order_relaxed)) return false;
    if (!pool.has_sequences) return true;
    for (std::uint64_t open = pool.occupancy.open->load(std::memory_order_relaxed); open != 0; open &= open - 1)
        if (count_in(top_now(pool, pool.topology->at[static_cast<std::size_t>(std::countr_zero(open))])) != 0) return false;
    return count_in(top_now(pool, cpu)) == 0;
}

// Full: half of the stack, and `items`, go where all CPUs find them.
[[gnu::noinline]] void spill(Pool& pool, unsigned cpu, PoolItems items) noexcept {
    void* popped;
    while (items.count <= pool.limit / 2 && Restartable::pop(pool, popped)) {
        const PoolItem found = pool.item(popped);
        pool.links[found - 1].store(static_cast<std::uint32_t>(items.first), std::memory_order_relaxed);
        items.first = found;
        ++items.count;
    }
    if (items.count > 1) pool.spilled.fetch_add(items.count - 1, std::memory_order_relaxed);
    put(pool, cpu, items);
}

[[gnu::noinline]] void push_to_open_stack(Pool& pool, unsigned cpu, void* object, const PoolItems& items) noexcept {
    for (int i = 0; i < attempts; ++i) {
        const std::uint64_t top = top_now(pool, cpu);
        if (is_shut(top)) break;
        if (count_in(top) >= pool.limit) return spill(pool, cpu, items);
        if (Restartable::push(pool, object)) return;
    }
    put(pool, cpu, items);
}

[[gnu::noinline]] void note_out(Pool& pool, PoolItem item) noexcept {
    out_bits(pool, item).fetch_or(bit_of(item - 1), std::memory_order_relaxed);
}

[[gnu::noinline]] void note_back(Pool& pool, PoolItem item) noexcept {
    const std::uint64_t bit = bit_of(item - 1);
    if ((out_bits(pool, item).fetch_and(~bit, std::memory_order_relaxed) & bit) == 0)
        fatal("an object is pushed that is not out: pushed twice?");
}

}  // namespace

void* Pool::pop(unsigned cpu) noexcept {
    void* object = nullptr;
    if (has_sequences && (!is_shut(top_now(*this, cpu)) || consider_opening(cpu)))
        object = pop_to_open_stack(*this, cpu);
    else if (const PoolItem item = lists[list_of(cpu)].take_one(links); item != 0)
        object = this->object(item);
    if (object == nullptr) object = pop_from_others(*this, cpu);
    if (checked && object != nullptr) [[unlikely]]
        note_out(*this, item(object));
    return object;
}

void Pool::push(void* object) noexcept {
    const PoolItem number = item(object);
    if (number - 1 >= capacity) [[unlikely]]
        fatal("an object is pushed into a pool that it does not come from");
    if (checked) [[unlikely]]
        note_back(*this, number);
    const unsigned cpu = cpu_in(*this);
    const PoolItems items{.first = number, .last = number, .count = 1};
    if (has_sequences && (!is_shut(top_now(*this, cpu)) || consider_opening(cpu)))
        return push_to_open_stack(*this, cpu, object, items);
    put(*this, cpu, items);
}

std::uint64_t Pool::close() noexcept {
    if (!is_closed.exchange(true, std::memory_order_relaxed)) {
        // First the lists, which says to whoever comes with an object that it is to be counted; then what cannot move any more.
        std::uint64_t found = 0;
        for (std::uint32_t list = 0; list < list_count; ++list) found += lists[list].close(links).count;
        found += close_stacks();
        if (found != 0) left.fetch_sub(found, std::memory_order_relaxed);  // the handle's share keeps it above zero
    }
    return left.load(std::memory_order_relaxed) - 1;
}

void Pool::returned(std::uint64_t count) noexcept {
    // (S) acquire and release: what was done with the pool and its objects happened before they are destroyed.
    if (left.fetch_sub(count, std::memory_order_acq_rel) == count) free();
}

namespace detail {

// A miss ends here, without a call and without a register saved.
void* pool_pop_elsewhere(PoolCore& core) noexcept {
    Pool& pool = Pool::of(core);
    const unsigned cpu = cpu_in(pool);
    if (looks_empty(pool, cpu)) return miss(pool, cpu);
    return pool.pop(cpu);
}

void pool_push_elsewhere(PoolCore& core, void* object) noexcept { Pool::of(core).push(object); }
std::size_t close_pool(PoolCore& core) noexcept { return Pool::of(core).close(); }

void leave_pool(PoolCore& core) noexcept {
    Pool::of(core).close();
    Pool::of(core).returned(1);
}

PoolCounters pool_counters(const PoolCore& core) noexcept {
    const Pool& pool = Pool::of(core);
    const auto read = [](std::uint64_t& word) { return std::atomic_ref(word).load(std::memory_order_relaxed); };
    PoolCounters counters{.hits = pool.drained.load(std::memory_order_relaxed),
                          .misses = pool.stray_misses.load(std::memory_order_relaxed),
                          .steals = pool.stray_steals.load(std::memory_order_relaxed)};
    counters.hits -= pool.spilled.load(std::memory_order_relaxed);
    for (unsigned cpu = 0; cpu < pool.cpus; ++cpu) {
        counters.hits += read(pool.stack(cpu).top) >> pool_stack_pops;
        counters.misses += read(pool.counts(cpu).misses);
        counters.steals += read(pool.counts(cpu).steals);
    }
    for (std::uint32_t list = 0; list < pool.list_count; ++list) counters.hits += pool.lists[list].takes();
    return counters;
}

std::size_t pool_capacity(const PoolCore& core) noexcept { return Pool::of(core).capacity; }
PoolBackEnd pool_back_end(const PoolCore& core) noexcept { return Pool::of(core).back_end; }
const char* pool_back_end_reason(const PoolCore& core) noexcept { return Pool::of(core).reason; }

}  // namespace detail

}  // namespace dynfunc
