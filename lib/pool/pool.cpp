// SPDX-License-Identifier: MIT
// The half of pop and push that is not inline: this CPU's stack has nothing, is full, is shut, or there are no sequences.
#include "pool.hpp"

#include "fatal.hpp"
#include "sequences.hpp"

namespace dynfunc {
namespace {

using detail::PoolStack;
using detail::PoolWays;
using detail::Restartable;

// A sequence that was interrupted is tried again so often; a debugger that steps through it interrupts each.
constexpr int attempts = 4;

// `number` is one of PoolCounts of `stack`, on whose CPU this thread was a moment ago; elsewhere it counts for the whole pool.
[[gnu::always_inline]] inline void count(const PoolStack& stack, std::uint64_t& number, std::atomic<std::uint64_t>& stray,
                                         bool has_sequences) noexcept {
    const std::ptrdiff_t area = cpu_area;
    if ((!has_sequences && area == 0) || !Restartable::count(area, stack.cpu, number)) [[unlikely]]
        stray.fetch_add(1, std::memory_order_relaxed);
}

[[gnu::always_inline]] inline void* miss(Pool& pool, PoolStack& stack, bool has_sequences) noexcept {
    count(stack, pool.counts(stack).misses, pool.stray_misses, has_sequences);
    return nullptr;
}

// What this thread has linked, or one object. The pool may be gone afterwards.
void put_at(Pool& pool, const PoolStack& stack, const PoolItems& items) noexcept {
    std::atomic<std::uint64_t>* const filled = pool.occupancy.filled;
    const bool clears_bits = pool.clears_bits();
    const std::uint32_t list = stack.list;
    if (!pool.put(list, items))
        pool.returned(items.count);
    else if (clears_bits)
        set(filled, list);
}

// Several objects that were taken at once: the first for the caller, the others to where this CPU finds them.
void* keep_first(Pool& pool, const PoolStack& stack, PoolItems items) noexcept {
    void* const object = pool.object(items.first);
    if (--items.count == 0) return object;
    items.first = pool.links[items.first - 1].load(std::memory_order_relaxed);
    if (pool.has_sequences) {
        while (items.count != 0) {
            const PoolItem next = pool.links[items.first - 1].load(std::memory_order_relaxed);
            if (!Restartable::push(pool, cpu_area, pool.object(items.first))) break;
            items.first = next;
            --items.count;
        }
    }
    if (items.count != 0) put_at(pool, stack, items);
    return object;
}

// What the other lists hold, nearest first.
PoolItems take_from_others(Pool& pool, const PoolStack& stack, std::uint64_t most) noexcept {
    const std::uint32_t own = stack.list;
    if (!pool.clears_bits()) {
        for (std::uint32_t step = 1, list = own; step < pool.list_count; ++step) {
            if (++list == pool.list_count) list = 0;
            if (const PoolItems items = pool.take(list, most); items.count != 0) return items;
        }
        return {};
    }
    const Topology::Cpu& here = pool.topology->cpus[stack.cpu];
    PoolItems items;
    const auto list_after = [&](std::uint32_t position) -> std::size_t { return pool.list_at(position - 1) + std::size_t{1}; };
    any_of_nearest(pool.occupancy.filled,
                   {own, pool.list_at(here.cache_begin), list_after(here.cache_end), pool.list_at(here.node_begin),
                    list_after(here.node_end), pool.list_count},
                   [&](std::size_t list) {
                       items = pool.take(list, most);
                       if (items.count != 0) return true;
                       // (R) pairs with put_at(): either whoever puts next sees the bit gone, or its item is seen here.
                       clear(pool.occupancy.filled, list);
                       if (!are_empty(pool.lists[list].head(std::memory_order_seq_cst), pool.has_sets))
                           set(pool.occupancy.filled, list);
                       return false;
                   });
    return items;
}

std::atomic<std::uint64_t>& out_bits(const Pool& pool, std::uint64_t item) noexcept { return pool.out()[(item - 1) / 64]; }

[[gnu::noinline]] void* note_out(Pool& pool, PoolItem item) noexcept {
    out_bits(pool, item).fetch_or(bit_of(item - 1), std::memory_order_relaxed);
    return pool.object(item);
}

[[gnu::noinline]] void note_back(Pool& pool, PoolItem item) noexcept {
    const std::uint64_t bit = bit_of(item - 1);
    if ((out_bits(pool, item).fetch_and(~bit, std::memory_order_relaxed) & bit) == 0)
        fatal("an object is pushed that is not out: pushed twice?");
}

// Neither this CPU's stack nor its list has anything.
[[gnu::noinline]] void* pop_from_others(Pool& pool, PoolStack& stack) noexcept {
    // To work on the lists: one more than is needed, so as not to come again soon.
    constexpr std::uint64_t most_stolen = 2;
    const bool fills_stack = pool.has_sequences && !is_shut(top_now(stack));
    PoolItems items;
    if (pool.list_count > 1) items = take_from_others(pool, stack, fills_stack ? pool.limit / 2 + 1 : most_stolen);
    if (items.count == 0 && pool.has_sequences) {
        items = pool.drain_nearest(stack.cpu);
        if (items.count != 0) pool.drained.fetch_add(1, std::memory_order_relaxed);
    }
    if (items.count != 0) {
        count(stack, pool.counts(stack).steals, pool.stray_steals, pool.has_sequences);
        void* const object = keep_first(pool, stack, items);
        return pool.checked ? note_out(pool, pool.item(object)) : object;
    }
    begin_quiet(pool.counts(stack));
    return miss(pool, stack, pool.has_sequences);
}

// A CPU whose stack is open, but empty or interrupted: fills it to the half from the list that is its own.
[[gnu::noinline]] void* pop_beside_stack(Pool& pool, PoolStack& stack) noexcept {
    pool.try_sequences(true);
    for (int i = 0; i < attempts; ++i) {
        const std::uint64_t top = top_now(stack);
        if (is_shut(top) || count_in(top) == 0) break;
        void* object;
        PoolStack* at;
        if (Restartable::pop(pool, cpu_area, object, at)) return object;
    }
    const PoolItems items = pool.take(stack.list, pool.limit / 2 + 1);
    return items.count != 0 ? keep_first(pool, stack, items) : pop_from_others(pool, stack);
}

// Full: half of the stack, and `items`, go where all CPUs find them.
[[gnu::noinline]] void spill(Pool& pool, const PoolStack& stack, PoolItems items) noexcept {
    void* popped;
    PoolStack* at;
    while (items.count <= pool.limit / 2 && Restartable::pop(pool, cpu_area, popped, at)) {
        const PoolItem found = pool.item(popped);
        pool.links[found - 1].store(static_cast<std::uint32_t>(items.first), std::memory_order_relaxed);
        items.first = found;
        ++items.count;
    }
    if (items.count > 1) pool.spilled.fetch_add(items.count - 1, std::memory_order_relaxed);
    put_at(pool, stack, items);
}

[[gnu::noinline]] void push_to_open_stack(Pool& pool, const PoolStack& stack, void* object, PoolItem item) noexcept {
    const PoolItems items{.first = item, .last = item, .count = 1};
    pool.try_sequences(true);
    for (int i = 0; i < attempts; ++i) {
        const std::uint64_t top = top_now(stack);
        if (is_shut(top)) break;
        if (count_in(top) >= pool.limit) return spill(pool, stack, items);
        if (Restartable::push(pool, cpu_area, object)) return;
    }
    put_at(pool, stack, items);
}

[[gnu::noinline]] void* pop_opening_stack(Pool& pool, PoolStack& stack) noexcept {
    if (pool.open_stack(stack.cpu)) return pop_beside_stack(pool, stack);
    const PoolItem item = pool.take_one(stack.list);
    return item != 0 ? pool.object(item) : pop_from_others(pool, stack);
}

[[gnu::noinline]] void push_opening_stack(Pool& pool, PoolStack& stack, void* object, PoolItem item) noexcept {
    if (pool.open_stack(stack.cpu)) return push_to_open_stack(pool, stack, object, item);
    put_at(pool, stack, {.first = item, .last = item, .count = 1});
}

// What a pool is, known where its pop and push are compiled: what each of them has to ask costs as much as half of its work.
struct Kind {
    bool has_sequences, has_sets;
    bool is_plain;  // few CPUs, no pushes checked, and one list, or each CPU's has its number
    bool has_one_list;

    std::uint32_t list_of(const PoolStack& stack, unsigned cpu) const noexcept {
        return !is_plain ? stack.list : has_one_list ? 0 : cpu;
    }
};

// Whether a pool whose places are few has nothing anywhere, on a first look: a miss is to cost no more than it must.
[[gnu::always_inline]] inline bool looks_empty(const Pool& pool, Kind kind) noexcept {
    if (!kind.is_plain && !pool.is_small) return false;
    std::uint64_t heads = 0, tops = 0;
    if (kind.has_sequences && kind.is_plain) {
        // In memory the stacks come first, then the lists, then the links.
        auto* at = reinterpret_cast<const std::byte*>(&pool.stack(0));
        do tops |= top_now(*reinterpret_cast<const PoolStack*>(at));
        while ((at += pool.block_bytes) != reinterpret_cast<const std::byte*>(pool.lists));
    } else if (kind.has_sequences) {
        for (std::uint64_t open = pool.occupancy.open->load(std::memory_order_relaxed); open != 0; open &= open - 1)
            tops |= top_now(pool.stack(pool.topology->at[static_cast<std::size_t>(std::countr_zero(open))]));
    }
    const PoolList* list = pool.lists;
    do heads |= list->head(std::memory_order_relaxed);
    while (!kind.has_one_list && ++list != static_cast<const void*>(pool.links));
    return are_empty(heads, kind.has_sets) && count_in(tops) == 0;
}

[[gnu::always_inline]] inline void* pop_at(Pool& pool, PoolStack& stack, unsigned cpu, Kind kind) noexcept {
    if (kind.has_sequences) {
        if (!is_shut(top_now(stack))) return looks_empty(pool, kind) ? miss(pool, stack, true) : pop_beside_stack(pool, stack);
        if (!stays_shut(pool.counts(stack))) [[unlikely]]
            return pop_opening_stack(pool, stack);
    }
    const std::uint32_t list = kind.list_of(stack, cpu);
    const PoolItem item = kind.has_sets ? pool.set(list).take_one() : pool.chain(list).take_one(pool.links);
    if (item != 0) [[likely]] {
        if (!kind.is_plain && pool.checked) [[unlikely]]
            return note_out(pool, item);
        return pool.object(item);
    }
    if (!looks_empty(pool, kind)) return pop_from_others(pool, stack);
    if (kind.has_sequences) begin_quiet(pool.counts(stack));
    return miss(pool, stack, kind.has_sequences);
}

[[gnu::always_inline]] inline void push_at(Pool& pool, PoolStack& stack, unsigned cpu, void* object, PoolItem item,
                                           Kind kind) noexcept {
    if (kind.has_sequences) {
        if (!is_shut(top_now(stack))) return push_to_open_stack(pool, stack, object, item);
        if (!stays_shut(pool.counts(stack))) [[unlikely]]
            return push_opening_stack(pool, stack, object, item);
    }
    const PoolItems items{.first = item, .last = item, .count = 1};
    if (!kind.is_plain) return put_at(pool, stack, items);
    const std::uint32_t list = kind.list_of(stack, cpu);
    if (!(kind.has_sets ? pool.set(list).put(pool.links, items) : pool.chain(list).put(pool.links, items))) [[unlikely]]
        pool.returned(1);
}

// The CPU on which this thread was a moment ago. Not below Pool::cpus: it is not told, or the pool does not know that one.
[[gnu::always_inline]] inline std::uint32_t recent_cpu(Kind kind) noexcept {
    return static_cast<std::uint32_t>(kind.has_sequences ? Restartable::cpu(cpu_area) : told_cpu());
}
// Then it has some other.
unsigned other_cpu_in(const Pool& pool, std::uint32_t cpu) noexcept {
    return (static_cast<std::int32_t>(cpu) < 0 ? guessed_cpu() : cpu) % pool.cpus;
}

// Out of line, like everything that makes a call and comes back: so nothing is saved on the usual ways.
template <Kind kind>
[[gnu::noinline]] void* pop_somewhere(Pool& pool, std::uint32_t told) noexcept {
    const unsigned cpu = other_cpu_in(pool, told);
    return pop_at(pool, pool.stack(cpu), cpu, kind);
}
template <Kind kind>
[[gnu::noinline]] void push_somewhere(Pool& pool, std::uint32_t told, void* object, PoolItem item) noexcept {
    const unsigned cpu = other_cpu_in(pool, told);
    push_at(pool, pool.stack(cpu), cpu, object, item, kind);
}

template <Kind kind>
void* pop_elsewhere(detail::PoolCore& core, PoolStack* stack) noexcept {
    Pool& pool = Pool::of(core);
    if (kind.has_sequences && stack != nullptr) return pop_at(pool, *stack, stack->cpu, kind);
    const std::uint32_t cpu = recent_cpu(kind);
    if (cpu >= pool.cpus) [[unlikely]]
        return pop_somewhere<kind>(pool, cpu);
    return pop_at(pool, pool.stack(cpu), cpu, kind);
}

template <Kind kind>
void push_elsewhere(detail::PoolCore& core, void* object) noexcept {
    Pool& pool = Pool::of(core);
    const PoolItem item = pool.item(object);
    if (item - 1 >= pool.capacity) [[unlikely]]
        fatal("an object is pushed into a pool that it does not come from");
    if (!kind.is_plain && pool.checked) [[unlikely]]
        note_back(pool, item);
    const std::uint32_t cpu = recent_cpu(kind);
    if (cpu >= pool.cpus) [[unlikely]]
        return push_somewhere<kind>(pool, cpu, object, item);
    push_at(pool, pool.stack(cpu), cpu, object, item, kind);
}

template <Kind kind>
constexpr PoolWays ways_of{pop_elsewhere<kind>, push_elsewhere<kind>};

}  // namespace

const PoolWays* Pool::choose_ways(bool in_order) const noexcept {
    static constexpr const PoolWays* all[] = {
        &ways_of<Kind{false, false, false, false}>, &ways_of<Kind{false, false, true, false}>,
        &ways_of<Kind{false, false, true, true}>,   &ways_of<Kind{false, true, false, false}>,
        &ways_of<Kind{false, true, true, false}>,   &ways_of<Kind{false, true, true, true}>,
        &ways_of<Kind{true, false, false, false}>,  &ways_of<Kind{true, false, true, false}>,
        &ways_of<Kind{true, false, true, true}>,    &ways_of<Kind{true, true, false, false}>,
        &ways_of<Kind{true, true, true, false}>,    &ways_of<Kind{true, true, true, true}>,
    };
    constexpr std::uint32_t few_cpus = 8;  // a glance at each is cheaper than bits that say which are worth one
    const bool is_plain = is_small && cpus <= few_cpus && !checked && (in_order || list_count == 1);
    return all[6 * has_sequences + 3 * has_sets + (is_plain ? 1 + (list_count == 1) : 0)];
}

std::uint64_t Pool::close() noexcept {
    if (!is_closed.exchange(true, std::memory_order_relaxed)) {
        // First the lists, which says to whoever comes with an object that it is to be counted; then what cannot move any more.
        std::uint64_t found = 0;
        for (std::uint32_t list = 0; list < list_count; ++list) found += close(list);
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
        PoolStack& stack = pool.stack(cpu);
        counters.hits += top_now(stack) >> pool_stack_pops;
        counters.misses += read(pool.counts(stack).misses);
        counters.steals += read(pool.counts(stack).steals);
    }
    for (std::uint32_t list = 0; list < pool.list_count; ++list) counters.hits += pool.takes(list);
    return counters;
}

std::size_t pool_capacity(const PoolCore& core) noexcept { return Pool::of(core).capacity; }
PoolBackEnd pool_back_end(const PoolCore& core) noexcept { return Pool::of(core).back_end; }
const char* pool_back_end_reason(const PoolCore& core) noexcept { return Pool::of(core).reason; }

}  // namespace detail

}  // namespace dynfunc
