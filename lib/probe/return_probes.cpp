// SPDX-License-Identifier: MIT
#include "return_probes.hpp"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>

#include <dynfunc/object_pool.hpp>

#include "first_use.hpp"
#include "os.hpp"
#include "probes.hpp"
#include "reclaim.hpp"
#include "return_slots.hpp"

namespace dynfunc {

using detail::ReturnCore;
using detail::ReturnPlan;

namespace {

std::size_t data_offset(const ReturnPlan& plan) noexcept {
    return (sizeof(ReturnInstance) + plan.data_alignment - 1) / plan.data_alignment * plan.data_alignment;
}

std::size_t most_active(const ReturnPlan& plan) noexcept {
    constexpr std::size_t least = 64, for_each_cpu = 4;
    if (plan.max_active != 0) return plan.max_active;
    return std::max<std::size_t>(least, for_each_cpu * static_cast<std::size_t>(std::max(1L, sysconf(_SC_NPROCESSORS_CONF))));
}

// Objects of a pool: a ReturnInstance each, and the user's data behind it.
struct InstanceMaker {
    const ReturnPlan& plan;
    ReturnCore& core;
    std::size_t& made;

    static void construct(const void* context, void* object) {
        const auto& maker = *static_cast<const InstanceMaker*>(context);
        void* const data = static_cast<std::byte*>(object) + data_offset(maker.plan);
        maker.plan.construct(maker.plan.context, data);
        ReturnRecord& record = *maker.core.records[maker.made++];
        record.handlers = &maker.core;
        record.data = data;
        record.object = object;
        new (object) ReturnInstance{&record};
    }
    static void destroy(void* object) noexcept {
        const ReturnRecord& record = *static_cast<const ReturnInstance*>(object)->record;
        static_cast<ReturnCore*>(record.handlers)->destroy_data(record.data);
    }
};

}  // namespace

void dynfunc_pop_instance(void* pair, Registers*) noexcept {
    auto** const words = static_cast<void**>(pair);
    words[1] = ReturnProbes::pop(*static_cast<ReturnCore*>(static_cast<ReturnHandlers*>(words[0])));
}

void dynfunc_push_instance(void* pair, Registers*) noexcept {
    auto** const words = static_cast<void**>(pair);
    detail::pool_push(*static_cast<ReturnHandlers*>(words[0])->pool, words[1]);
}

void dynfunc_forget_tracked(void* first, Registers*) noexcept {
    for (auto* record = static_cast<ReturnRecord*>(first); record != nullptr;)
        give_back_instance(*std::exchange(record, record->next));
}

ReturnProbes& ReturnProbes::instance() noexcept {
    static constinit MadeOnFirstUse<ReturnProbes> probes;
    return probes.get([] { return ReturnProbes(); });
}

void ReturnProbes::adopt(Copied copied) noexcept {
    if (copied == Copied::inside_a_change) instance().is_copied_half_way_ = true;
}

Result<ReturnCore*> ReturnProbes::attach(std::span<const ProbeTarget> targets, const ReturnPlan& plan,
                                          Probes::Tolerance* tolerance) {
    if (targets.empty()) return refuse(Errc::empty_batch, {});
    if (plan.on_entry == nullptr && plan.on_return == nullptr && plan.on_unwind == nullptr) {
        const auto at = targets.front().resolve();
        return refuse(Errc::no_callback, at ? *at : Address{});
    }
    if (auto possible = Probes::are_possible(); !possible) return std::unexpected(possible.error());
    if (!arch::return_slots()) return refuse(Errc::text_not_writable, {});
    const std::size_t active = most_active(plan);
    if (active > pool_capacity_most) return refuse(Errc::capacity_out_of_range, {});

    auto core = std::make_unique<ReturnCore>();
    core->on_entry = plan.on_entry;
    core->on_return = plan.on_return;
    core->on_unwind = reinterpret_cast<void (*)(void*)>(plan.on_unwind);
    core->need_vectors = plan.needs == Needs::vectors;
    core->destroy_data = plan.destroy;
    {
        const AdoptedLock hold(fork_part_);
        if (is_copied_half_way_) return refuse(Errc::copied_half_way, {});
        see_to_leaving();
        auto records = records_.take(active);
        if (!records) return std::unexpected(records.error());
        core->records = std::move(*records);
    }
    // Until the end: who fails, or throws, gives all of it back.
    struct Undo {
        ReturnProbes& probes;
        std::unique_ptr<ReturnCore>& core;
        ~Undo() {
            if (core == nullptr) return;
            if (core->pool != nullptr) detail::leave_pool(*core->pool);
            const AdoptedLock hold(probes.fork_part_);
            probes.records_.give_back(core->records);
        }
    } undo{*this, core};

    std::size_t made = 0;
    const InstanceMaker maker{plan, *core, made};
    constexpr std::size_t word = alignof(ReturnInstance);
    const std::size_t alignment = std::max(plan.data_alignment, word);
    const auto pool =
        detail::create_pool({.capacity = active,
                             .object_bytes = (data_offset(plan) + plan.data_bytes + alignment - 1) / alignment * alignment,
                             .alignment = alignment,
                             .back_end = {},
                             .huge_pages = false,
                             .checks = PoolChecks::off,
                             .memory = nullptr,
                             .allocate = nullptr,
                             .deallocate = nullptr,
                             .context = &maker,
                             .construct = &InstanceMaker::construct,
                             .destroy = plan.destroy != nullptr ? &InstanceMaker::destroy : nullptr});
    if (!pool) return std::unexpected(pool.error());
    core->pool = *pool;

    std::vector<ProbeRequest> requests;
    requests.reserve(targets.size());
    const ProbeOptions options{.on_hit = reinterpret_cast<AfterHit (*)(ProbeHit&)>(arch::return_entry().value),
                               .data = static_cast<ReturnHandlers*>(core.get()),
                               .needs = plan.on_entry != nullptr ? plan.needs : Needs::registers,
                               .priority = plan.priority,
                               .is_enabled = plan.is_enabled,
                               .breakpoint = plan.breakpoint};
    for (const ProbeTarget& target : targets) requests.push_back({target, options});
    auto attached = Probes::instance().attach(requests, tolerance, Probes::Of::calls);
    if (!attached) return std::unexpected(attached.error());
    core->probes = std::move(*attached);
    return core.release();
}

// Of one that found nothing where threads of this CPU look first. Calls that will never end are looked for when there is
// nothing at all; where that was in vain, a look is worth its price only after as many misses as it has records to read.
void* ReturnProbes::pop(ReturnCore& core) noexcept {
    const os::KeepErrno keep;
    if (void* const object = detail::pool_pop(*core.pool)) return object;
    const std::uint64_t left = __atomic_load_n(&core.misses_until_look, __ATOMIC_RELAXED);
    if (left != 0) {
        __atomic_store_n(&core.misses_until_look, left - 1, __ATOMIC_RELAXED);
    } else if (!__atomic_exchange_n(&core.is_looking, true, __ATOMIC_ACQUIRE)) {
        const std::size_t in_flight = ReturnRecords::collect(core.records);
        void* const object = detail::pool_pop(*core.pool);
        if (object == nullptr && in_flight == core.records.size())
            __atomic_store_n(&core.misses_until_look, core.records.size(), __ATOMIC_RELAXED);
        __atomic_store_n(&core.is_looking, false, __ATOMIC_RELEASE);
        if (object != nullptr) return object;
    }
    __atomic_fetch_add(&core.missed, 1, __ATOMIC_RELAXED);
    return nullptr;
}

void ReturnProbes::detach(ReturnCore& core, bool wait) noexcept {
    Probes::instance().detach(core.probes);
    __atomic_store_n(&core.is_detached, true, __ATOMIC_RELEASE);
    core.reclaim = &leave;
    retire(core);
    if (!wait || is_in_section()) return;
    synchronize();
    synchronize();  // what leave() has retired
}

void ReturnProbes::leave(Retired& item) noexcept {
    ReturnProbes& probes = instance();
    const AdoptedLock hold(probes.fork_part_);
    auto& core = static_cast<ReturnCore&>(item);
    core.next_leaving = std::exchange(probes.leaving_, &core);
    probes.see_to_leaving();
}

// Those whose last call has ended.
void ReturnProbes::see_to_leaving() noexcept {
    for (ReturnCore** at = &leaving_; *at != nullptr;) {
        ReturnCore& core = **at;
        if (ReturnRecords::collect(core.records) != 0) {
            at = &core.next_leaving;
            continue;
        }
        *at = core.next_leaving;
        core.reclaim = &destroy;
        retire(core);
    }
}

void ReturnProbes::destroy(Retired& item) noexcept {
    const std::unique_ptr<ReturnCore> core(static_cast<ReturnCore*>(&item));
    detail::leave_pool(*core->pool);
    ReturnProbes& probes = instance();
    const AdoptedLock hold(probes.fork_part_);
    probes.records_.give_back(core->records);
}

std::size_t ReturnProbes::in_flight(const ReturnCore& core) noexcept {
    const AdoptedLock hold(fork_part_);
    see_to_leaving();
    return ReturnRecords::collect(core.records);
}

ReturnCounts ReturnProbes::counts(const ReturnCore& core) noexcept {
    static_cast<void>(in_flight(core));
    ReturnCounts counts{};
    for (const Probe& probe : core.probes) counts.calls += probe.hits();
    counts.missed = __atomic_load_n(&core.missed, __ATOMIC_RELAXED);
    counts.unwound = __atomic_load_n(&core.unwound, __ATOMIC_RELAXED);
    counts.stale = __atomic_load_n(&core.stale, __ATOMIC_RELAXED);
    return counts;
}

namespace detail {

Result<ReturnCore*> attach_return(std::span<const ProbeTarget> targets, const ReturnPlan& plan) {
    return ReturnProbes::instance().attach(targets, plan);
}
Result<void> enable_return(ReturnCore& core) { return Probe::enable(core.probes); }
void disable_return(ReturnCore& core) noexcept { Probe::disable(core.probes); }
void detach_return(ReturnCore& core, bool wait) noexcept { ReturnProbes::detach(core, wait); }
ReturnCounts return_counts(const ReturnCore& core) noexcept { return ReturnProbes::instance().counts(core); }
std::size_t returns_in_flight(const ReturnCore& core) noexcept { return ReturnProbes::instance().in_flight(core); }
std::size_t most_returns(const ReturnCore& core) noexcept { return core.records.size(); }
std::span<const Probe> probes_of(const ReturnCore& core) noexcept { return core.probes; }

}  // namespace detail

}  // namespace dynfunc
