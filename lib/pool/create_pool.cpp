// SPDX-License-Identifier: MIT
// Making a pool and freeing it.
#include "pool.hpp"

#include <unistd.h>
#include <dynfunc/detail/mapping.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string_view>

#include "first_use.hpp"
#include "mapped_memory.hpp"
#include "sequences.hpp"

namespace dynfunc {
namespace {

constexpr std::size_t line = 64;  // of the caches: what two CPUs write lies in two of them
constexpr std::size_t rounded(std::size_t bytes, std::size_t to) noexcept { return (bytes + to - 1) / to * to; }
constexpr std::size_t words_of(std::size_t bits) noexcept { return (bits + 63) / 64; }

std::unexpected<Error> refused(Errc code, int os_error = 0) {
    return std::unexpected(Error{.code = code, .os_error = os_error});
}

struct BackEnd {
    PoolBackEnd kind;
    const char* reason;
};

// What is asked for, as far as it is to be had; a demand of the program that cannot be met is an error, the environment's is
// not.
Result<BackEnd> choose_back_end(const detail::PoolPlan& plan) noexcept {
    const SequenceSupport& support = sequence_support();
    const BackEnd best =
        support.refusal == nullptr ? BackEnd{PoolBackEnd::restartable, ""} : BackEnd{PoolBackEnd::tagged, support.refusal};
    if (plan.back_end) {
        if (*plan.back_end != PoolBackEnd::restartable) return BackEnd{*plan.back_end, "the program asks for it"};
        if (support.refusal != nullptr) return refused(Errc::no_sequences, support.os_error);
        return best;
    }
    const char* asked = secure_getenv("DYNFUNC_POOL");
    if (asked == nullptr) return best;
    const std::string_view word = asked;
    if (word == "restartable") return best;
    if (word == "tagged") return BackEnd{PoolBackEnd::tagged, "DYNFUNC_POOL=tagged asks for it"};
    if (word == "single") return BackEnd{PoolBackEnd::single, "DYNFUNC_POOL=single asks for it"};
    return best.kind == PoolBackEnd::restartable
               ? BackEnd{best.kind, "DYNFUNC_POOL is none of restartable, tagged, single: ignored"}
               : best;
}

bool asks_for_checks() noexcept {
    const char* value = secure_getenv("DYNFUNC_POOL_CHECKS");
    return value != nullptr && std::string_view(value) == "1";
}

// The two pieces of memory that a pool has, given back unless they are kept.
class Piece {
public:
    Piece(const detail::PoolPlan& plan, std::size_t bytes, std::size_t alignment, bool huge_pages) noexcept
        : plan_(plan), bytes_(bytes), alignment_(alignment), huge_pages_(huge_pages) {
        at_ = static_cast<std::byte*>(plan.allocate != nullptr ? plan.allocate(plan.memory, bytes, alignment)
                                                               : detail::map_memory(bytes, alignment, huge_pages));
        error_ = at_ == nullptr ? errno : 0;
    }
    ~Piece() {
        if (at_ == nullptr) return;
        if (plan_.deallocate != nullptr)
            plan_.deallocate(plan_.memory, at_, bytes_, alignment_);
        else
            detail::unmap_memory(at_, bytes_, huge_pages_);
    }
    Piece(const Piece&) = delete;

    std::byte* at() const noexcept { return at_; }
    std::unexpected<Error> refusal() const { return refused(Errc::out_of_memory, plan_.allocate == nullptr ? error_ : 0); }
    void keep() noexcept { at_ = nullptr; }

private:
    const detail::PoolPlan& plan_;
    std::size_t bytes_, alignment_;
    bool huge_pages_;
    std::byte* at_;
    int error_;
};

// Objects that were constructed, destroyed unless they are kept.
struct Constructed {
    Pool& pool;
    std::size_t count = 0;
    ~Constructed() {
        if (pool.destroy == nullptr) return;
        while (count != 0) pool.destroy(pool.object(count--));
    }
};

std::uint64_t inverse_of_odd(std::uint64_t odd) noexcept {
    // Newton's iteration modulo 2^64; each step doubles the bits that are right, and odd * odd is 1 in the lowest three.
    std::uint64_t inverse = odd;
    for (int bits = 3; bits < 64; bits *= 2) inverse *= 2 - odd * inverse;
    return inverse;
}

std::size_t bytes_of_pool(const Pool& pool) noexcept {
    return overhead_of({pool.block_bytes, pool.limit, pool.list_count}, pool.capacity, pool.cpus, pool.checked);
}

// Gives each position its share of the objects, in the list that it looks into first.
void hand_out(Pool& pool) noexcept {
    for (std::uint32_t list = 0; list < pool.list_count; ++list) {
        const PoolItem begin = PoolItem{pool.capacity} * list / pool.list_count;
        const PoolItem end = PoolItem{pool.capacity} * (list + 1) / pool.list_count;
        for (PoolItem item = begin + 1; item < end; ++item)
            pool.links[item - 1].store(static_cast<std::uint32_t>(item + 1), std::memory_order_relaxed);
        pool.links[end - 1].store(0, std::memory_order_relaxed);
        static_cast<void>(pool.put(list, {begin + 1, end, end - begin}));
        set(pool.occupancy.filled, list);
    }
}

// As the sizes of Pool are laid out.
void lay_out(Pool& pool, std::byte* at) noexcept {
    at += detail::pool_core_bytes + pool.cpus * pool.block_bytes;
    pool.has_sets = pool.capacity <= PoolSet::most_items;
    pool.lists = reinterpret_cast<PoolList*>(at);
    for (std::size_t i = 0; i < pool.list_count; ++i)
        pool.has_sets ? static_cast<void>(new (&pool.lists[i]) PoolSet) : static_cast<void>(new (&pool.lists[i]) PoolChain);
    at += pool.list_count * sizeof(PoolList);
    pool.links = reinterpret_cast<PoolLink*>(at);
    for (std::size_t i = 0; i < pool.capacity; ++i) new (&pool.links[i]) PoolLink(0);
    if (pool.checked)
        for (std::size_t i = 0; i < words_of(pool.capacity); ++i) new (&pool.out()[i]) std::atomic<std::uint64_t>(0);

    pool.is_small = !pool.clears_bits() && pool.cpus <= 64;
    bool in_order = pool.list_count == pool.cpus;
    for (unsigned cpu = 0; cpu < pool.cpus; ++cpu)
        in_order = in_order && pool.list_at(pool.topology->cpus[cpu].position) == cpu;
    pool.ways = pool.choose_ways(in_order);
    for (unsigned cpu = 0; cpu < pool.cpus; ++cpu) {
        const std::uint32_t list = pool.list_at(pool.topology->cpus[cpu].position);
        auto& stack = *new (&pool.stack(cpu)) detail::PoolStack{.top = detail::pool_stack_shut,
                                                                .gate = pool_gate_shut,
                                                                .cpu = static_cast<std::uint16_t>(cpu),
                                                                .list = static_cast<std::uint16_t>(list)};
        new (&pool.counts(stack)) detail::PoolCounts{.quiet = pool_quiet_enough - 1, .misses = 0, .steals = 0};
    }
}

// This machine. Never destroyed: pools may live longer than static objects.
struct Machine {
    Topology topology;
    std::size_t online;

    static const Machine& get() {
        static constinit MadeOnFirstUse<Machine> machine;
        return machine.get([] { return Machine{read_topology("/sys", possible_cpus("/sys")), online_cpus()}; });
    }

    static std::size_t online_cpus() noexcept {
        const long count = sysconf(_SC_NPROCESSORS_ONLN);
        return count < 1 ? 1 : static_cast<std::size_t>(count);
    }
};

}  // namespace

PoolShape shape_of(std::size_t capacity, std::size_t cpus, std::size_t online, PoolBackEnd back_end) noexcept {
    // Fewer lists than CPUs where objects are few: a search must not look into more places than it finds objects.
    constexpr std::size_t objects_of_a_list = 4;
    PoolShape shape{};
    shape.list_count = back_end == PoolBackEnd::single ? 1 : std::clamp<std::size_t>(capacity / objects_of_a_list, 1, online);
    if (back_end != PoolBackEnd::restartable) {
        shape.block_bytes = line;
        return shape;
    }
    // The allowance: 16 bytes for each object, 128 for each CPU.
    constexpr std::size_t per_object = 16, per_cpu = 128, most_slots = 127;
    const std::size_t allowed = per_object * capacity + per_cpu * cpus;
    const std::size_t taken = detail::pool_core_bytes + shape.list_count * sizeof(PoolList) + capacity * sizeof(PoolLink);
    const std::size_t left = allowed > taken ? (allowed - taken) / cpus / line * line : 0;
    // On a small machine even a tiny pool gets stacks that hold some objects: what it is over the allowance is less than a
    // page.
    constexpr std::size_t small_machine = 8, some = 11;
    constexpr std::size_t around_slots = detail::pool_stack_slots + sizeof(detail::PoolCounts);
    const std::size_t least = cpus <= small_machine ? 2 * line : line;
    const std::size_t slots = (std::max(left, least) - around_slots) / sizeof(void*);
    // Half of all objects lie in stacks at most, the others where every CPU finds them; of few objects, any CPU may have some.
    shape.limit = std::min({slots, most_slots, std::max(capacity / (2 * online), std::min(capacity, some))});
    shape.block_bytes = rounded(around_slots + shape.limit * sizeof(void*), line);
    return shape;
}

std::size_t overhead_of(const PoolShape& shape, std::size_t capacity, std::size_t cpus, bool checked) noexcept {
    const std::size_t links = rounded(capacity * sizeof(PoolLink), sizeof(std::uint64_t));
    return detail::pool_core_bytes + cpus * shape.block_bytes + shape.list_count * sizeof(PoolList) + links +
           (checked ? words_of(capacity) * sizeof(std::uint64_t) : 0);
}

Result<Pool*> create_pool_on(const Topology& topology, std::size_t online, const detail::PoolPlan& plan) {
    if (plan.capacity == 0 || plan.capacity > pool_capacity_most) return refused(Errc::capacity_out_of_range);
    if (!std::has_single_bit(plan.alignment)) return refused(Errc::bad_alignment);
    std::size_t stride = 0, objects_bytes = 0;
    if (__builtin_add_overflow(plan.object_bytes, plan.alignment - 1, &stride)) return refused(Errc::capacity_out_of_range);
    stride = stride / plan.alignment * plan.alignment;
    if (stride > UINT32_MAX || __builtin_mul_overflow(stride, plan.capacity, &objects_bytes))
        return refused(Errc::capacity_out_of_range);
    const auto back_end = choose_back_end(plan);
    if (!back_end) return std::unexpected(back_end.error());

    const std::size_t cpus = topology.cpus.size();
    const PoolShape shape = shape_of(plan.capacity, cpus, online, back_end->kind);
    const bool checked = plan.checks == PoolChecks::on || (plan.checks == PoolChecks::automatic && asks_for_checks());
    const std::size_t bytes = overhead_of(shape, plan.capacity, cpus, checked);
    Piece core(plan, bytes, line, false);
    if (core.at() == nullptr) return core.refusal();
    Piece objects(plan, objects_bytes, plan.alignment, plan.huge_pages);
    if (objects.at() == nullptr) return objects.refusal();
    const Occupancy occupancy = make_occupancy(cpus);
    if (occupancy.filled == nullptr) return refused(Errc::out_of_memory);
    if (plan.allocate == nullptr && topology.nodes.size() > 1)
        for_each_node(topology, objects_bytes, [&](std::size_t begin, std::size_t end, unsigned node) {
            prefer_node(objects.at() + begin, end - begin, node);
        });

    auto& pool = *new (core.at()) Pool{};
    const auto even = static_cast<std::uint8_t>(std::countr_zero(stride));
    pool.has_sequences = back_end->kind == PoolBackEnd::restartable && !checked;
    pool.area = pool.has_sequences ? cpu_area : 0;
    pool.block_bytes = shape.block_bytes;
    pool.limit = shape.limit;
    pool.objects = objects.at();
    pool.topology = &topology;
    pool.inverse = inverse_of_odd(stride >> even);
    pool.occupancy = occupancy;
    pool.stride = static_cast<std::uint32_t>(stride);
    pool.capacity = static_cast<std::uint32_t>(plan.capacity);
    pool.cpus = static_cast<std::uint32_t>(cpus);
    pool.list_count = static_cast<std::uint32_t>(shape.list_count);
    pool.spread_over = static_cast<std::uint32_t>(online);
    pool.shift = even;
    pool.alignment = static_cast<std::uint8_t>(std::countr_zero(plan.alignment));
    pool.back_end = back_end->kind;
    pool.reason = back_end->reason;
    if (checked && pool.back_end == PoolBackEnd::restartable) {
        pool.back_end = PoolBackEnd::tagged;
        pool.reason = "pushes are checked";
    }
    pool.checked = checked;
    pool.huge_pages = plan.huge_pages;
    pool.left.store(plan.capacity + 1, std::memory_order_relaxed);
    pool.memory = plan.memory;
    pool.deallocate = plan.deallocate;
    pool.destroy = plan.destroy;
    lay_out(pool, core.at());

    struct Leave {
        const Occupancy* occupancy;
        std::size_t cpus;
        ~Leave() {
            if (occupancy != nullptr) leave_occupancy(*occupancy, cpus);
        }
    } leave{&occupancy, cpus};
    Constructed constructed{pool};
    if (plan.construct != nullptr)
        for (; constructed.count < plan.capacity; ++constructed.count)
            plan.construct(plan.context, pool.object(constructed.count + 1));
    constructed.count = 0;
    leave.occupancy = nullptr;
    hand_out(pool);
    objects.keep();
    core.keep();
    return &pool;
}

void Pool::free() noexcept {
    if (destroy != nullptr)
        for (PoolItem item = 1; item <= capacity; ++item) destroy(object(item));
    leave_occupancy(occupancy, cpus);
    const std::size_t bytes = bytes_of_pool(*this), objects_bytes = std::size_t{stride} * capacity;
    const std::size_t alignment_bytes = std::size_t{1} << alignment;
    const auto give_back = deallocate;
    void* const from = memory;
    std::byte* const first = objects;
    const bool huge = huge_pages;
    if (give_back != nullptr) {
        give_back(from, first, objects_bytes, alignment_bytes);
        give_back(from, this, bytes, line);
    } else {
        detail::unmap_memory(first, objects_bytes, huge);
        detail::unmap_memory(this, bytes, false);
    }
}

std::size_t pool_overhead(std::size_t capacity, std::size_t cpus) noexcept {
    return overhead_of(shape_of(capacity, cpus, cpus, PoolBackEnd::restartable), capacity, cpus, false);
}

const char* to_string(PoolBackEnd back_end) noexcept {
    switch (back_end) {
        case PoolBackEnd::restartable:
            return "restartable";
        case PoolBackEnd::tagged:
            return "tagged";
        case PoolBackEnd::single:
            return "single";
    }
    return "unknown";
}

Result<detail::PoolCore*> detail::create_pool(const PoolPlan& plan) {
    const Machine& machine = Machine::get();
    return create_pool_on(machine.topology, std::min(machine.online, machine.topology.cpus.size()), plan);
}

}  // namespace dynfunc
