// SPDX-License-Identifier: MIT
#include "registry.hpp"

#include <pthread.h>
#include <sys/auxv.h>

#include <algorithm>
#include <new>

#include "backend.hpp"
#include "first_use.hpp"
#include "os.hpp"
#include "patterns.hpp"
#include "reclaim.hpp"

namespace dynfunc {
namespace {

using detail::BranchKey;
using detail::BranchRecord;
using detail::BranchState;
using detail::FunctionKey;
using detail::Jump;
using detail::Tables;
using detail::TracepointKey;
using detail::TrampolineRecord;
using detail::TrampolineState;

AddressRange range_of(const Tables& tables) noexcept { return {Address{tables.begin}, Address{tables.end}}; }

// The executable leaves only when the process ends; then nothing is worth changing any more.
bool is_executable(const Tables& tables) noexcept { return range_of(tables).contains(Address{getauxval(AT_PHDR)}); }

Jump* key_of(const TrampolineRecord& record) noexcept { return static_cast<Jump*>(const_cast<void*>(*record.key)); }

BranchKey* key_of(const BranchRecord& record) noexcept {
    return const_cast<BranchKey*>(*(Address::of(&record.key) + record.key).as<const BranchKey* const*>());
}

bool is_empty_entry(const TrampolineRecord& record) noexcept { return record.code == nullptr; }
bool is_empty_entry(const BranchRecord& record) noexcept { return record.site == 0; }

std::uint64_t read_site(const BranchRecord& record) noexcept {
    return read_bytes(site_of(record), arch::capabilities().site_bytes);
}

}  // namespace

Registry& Registry::instance() noexcept {
    static constinit MadeOnFirstUse<Registry> registry;
    return registry.get([] { return Registry(); });
}

Registry::Hold::Hold(Registry& registry) noexcept : registry_(registry) {
    const bool raw_child = registry.fork_watch_.is_new_process();
    if (raw_child) {  // whoever held them stayed in the parent
        registry.lock_.reset_in_child();
        Patterns::instance().reset_in_child();
        for (ForkPart* part = registry.fork_parts_; part != nullptr; part = part->next)
            part->was_held = part->lock.reset_in_child();
    }
    registry.lock_.lock();
    if (raw_child) registry.adopt_child(Copied::at_any_moment);
}

void Registry::start() noexcept {
    if (started_) return;
    started_ = true;
    change_call_sites(backend().call_sites);
}

void Registry::prepare() noexcept {
    const Hold hold(*this);
    start();
}

void Registry::watch_forks() noexcept {
    fork_watch_.arm();
    pthread_atfork([] { instance().lock_all(); },
                   [] {
                       if (instance().started_ && backend().writing != nullptr) backend().writing->leave_to_child();
                       instance().unlock_all();
                   },
                   [] {
                       instance().adopt_child(Copied::under_the_lock);
                       instance().unlock_all();
                   });
}

namespace {

// Before anything else of this process can take a lock that a fork has to know, and after FirstUse: handlers run before a fork
// the last one first.
[[gnu::constructor(102)]] void start_watching_forks() noexcept { Registry::instance().watch_forks(); }

}  // namespace

namespace {

// Last locked, first unlocked: each puts back what it found of the thread's cancellation.
void unlock_parts(ForkPart* part) noexcept {
    if (part == nullptr) return;
    unlock_parts(part->next.load(std::memory_order_acquire));
    if (part->lock.is_mine()) part->lock.unlock();
}

}  // namespace

// A part may be listed while we wait for the lock under which that happens, and its own lock be held by then: once more, all.
void Registry::lock_all() noexcept {
    for (bool is_complete = false; !is_complete;) {
        for (ForkPart* part = fork_parts_.load(std::memory_order_acquire); part != nullptr;
             part = part->next.load(std::memory_order_acquire))
            part->lock.lock();
        Patterns::instance().lock();
        lock_.lock();
        is_complete = true;
        for (const ForkPart* part = fork_parts_; part != nullptr; part = part->next)
            is_complete = is_complete && part->lock.is_mine();
        if (!is_complete) unlock_all();
    }
}

void Registry::unlock_all() noexcept {
    lock_.unlock();
    Patterns::instance().unlock();
    unlock_parts(fork_parts_.load(std::memory_order_acquire));
}

void Registry::adopt(ForkPart& part) noexcept {
    const Hold hold(*this);
    if (part.is_listed) return;
    part.is_listed = true;
    std::atomic<ForkPart*>* at = &fork_parts_;
    while (ForkPart* const before = at->load(std::memory_order_relaxed)) {
        if (part.lock.rank() < before->lock.rank()) break;
        at = &before->next;
    }
    part.next.store(at->load(std::memory_order_relaxed), std::memory_order_relaxed);
    at->store(&part, std::memory_order_release);
}

bool Registry::has_call_site_in(AddressRange range) noexcept {
    bool found = false;
    for_each_object_with(range.begin, [&](const Tables& tables) {
        if (tables.call_sites == nullptr) return;
        const CallSiteTable& sites = *CallSiteTable::of(tables);
        const Address from = range.begin - (std::ptrdiff_t{sizeof(std::uint32_t)} - 1);
        const CallSite* const first = std::lower_bound(sites.begin(), sites.end(), from,
                                                       [](const CallSite& site, Address at) { return site.field < at; });
        found = found || (first != sites.end() && first->field < range.end);
    });
    return found;
}

void Registry::adopt_child(Copied copied) noexcept {
    fork_watch_.arm();
    if (started_ && backend().writing != nullptr) {
        // A refusal shows at the next update, which then changes nothing and says why.
        static_cast<void>(os::register_sync_cores());
        static_cast<void>(backend().writing->adopt_in_child());
    }
    // Slots and text may differ from the keys: half an update was copied, or the parent went on writing to pages that were
    // still shared.
    if (started_ && (copied == Copied::at_any_moment || backend().capabilities.writer == TextWriter::memory_file))
        rebuild_caches();
    for (ForkPart* part = fork_parts_; part != nullptr; part = part->next)
        part->adopt(copied == Copied::at_any_moment && part->was_held ? Copied::inside_a_change : copied);
}

void Registry::rebuild_caches() noexcept {
    update_.abandon();
    for_each(&Tables::functions, &Tables::functions_end, [](FunctionKey& key) { key.jump.in_batch = false; });
    for_each(&Tables::static_keys, &Tables::static_keys_end, [](detail::StaticKeyData& key) { key.branch.in_batch = false; });
    for_each(&Tables::tracepoints, &Tables::tracepoints_end, [](TracepointKey& key) { key.branch.in_batch = false; });
    for (Tables* tables = first_; tables != nullptr; tables = tables->next) {
        if (tables->call_sites != nullptr) CallSiteTable::of(*tables)->abandon_scratch();
        for (TrampolineRecord* record = tables->records; record != tables->records_end; ++record) {
            if (!has_slot(*record)) continue;
            void* target = key_of(*record)->target;
            __atomic_store_n(record->slot, target, __ATOMIC_RELEASE);
            record->current = read_word(Address::of(record->code));
            for_each_site(*record, [](CallSite& site) {
                if (site.state == CallSiteState::ready)
                    site.current = static_cast<std::uint32_t>(read_bytes(site.field, sizeof site.current));
            });
            if (!update_.show(*record, target, 0)) return;
        }
        for (BranchRecord* record = tables->branches; record != tables->branches_end; ++record) {
            if (record->state != BranchState::patched) continue;
            record->current = read_site(*record);
            if (!update_.show(*record, key_of(*record)->enabled != 0, 0)) return;
        }
    }
    static_cast<void>(update_.apply());
}

bool Registry::is_in_a_table(const void* address) const noexcept {
    const auto inside = [address](const auto* begin, const auto* end) { return begin <= address && address < end; };
    for (const Tables* tables = first_; tables != nullptr; tables = tables->next)
        if (inside(tables->functions, tables->functions_end) || inside(tables->static_keys, tables->static_keys_end) ||
            inside(tables->tracepoints, tables->tracepoints_end))
            return true;
    return false;
}

// A key is served by the copy of the library that meets it first; every other copy leaves its own trampolines and branch sites
// to that key in the form that asks it, which stays right whoever changes it.
bool Registry::claim(detail::KeyIdentity& identity) noexcept {
    if (identity.abi != detail::abi_version) return false;
    if (identity.owner == nullptr) identity.owner = this;
    return identity.owner == this;
}

bool Registry::bind(TrampolineRecord& record, Tables& object) noexcept {
    if (is_empty_entry(record)) return false;
    Jump* key = key_of(record);
    if (key == nullptr || key->abi != detail::abi_version || !claim(identity_of(*key))) return false;
    record.original = record.current = read_word(Address::of(record.code));
    record.next = key->trampolines;
    record.object = &object;
    record.first_site = 0;
    record.was_written = 0;
    key->trampolines = &record;
    const auto code = std::span(static_cast<const std::byte*>(record.code), arch::capabilities().slot_jump_bytes);
    const bool aligned = Address::of(record.code).value % sizeof(std::uint64_t) == 0;
    const bool intact = aligned && arch::is_slot_jump(code, Address::of(record.code), Address::of(record.slot));
    const Form form = backend().capabilities.form;
    record.state = form == Form::pointer ? TrampolineState::asks_key
                   : !intact             ? TrampolineState::slot_foreign
                                         : TrampolineState::slot;
    return true;
}

bool Registry::bind(BranchRecord& record) noexcept {
    if (is_empty_entry(record)) return false;
    BranchKey* key = key_of(record);
    if (key == nullptr || key->abi != detail::abi_version || !claim(identity_of(*key))) return false;
    record.next = key->sites;
    key->sites = &record;
    record.state = BranchState::tests;
    if (backend().writing == nullptr) return true;
    record.current = read_site(record);
    const auto code = std::span(reinterpret_cast<const std::byte*>(&record.current), arch::capabilities().site_bytes);
    record.state = arch::is_branch_jump(code) ? BranchState::patched : BranchState::foreign;
    return true;
}

void Registry::unbind(TrampolineRecord& record) noexcept {
    if (record.state == TrampolineState::unbound) return;
    for (TrampolineRecord** link = &key_of(record)->trampolines; *link != nullptr; link = &(*link)->next) {
        if (*link != &record) continue;
        *link = record.next;
        break;
    }
    record.next = nullptr;
    record.object = nullptr;
    record.first_site = 0;
    record.state = TrampolineState::unbound;
}

void Registry::unbind(BranchRecord& record) noexcept {
    if (record.state == BranchState::unbound) return;
    for (BranchRecord** link = &key_of(record)->sites; *link != nullptr; link = &(*link)->next) {
        if (*link != &record) continue;
        *link = record.next;
        break;
    }
    record.next = nullptr;
    record.state = BranchState::unbound;
}

bool Registry::enter(Tables& tables) noexcept {
    if (tables.abi != detail::abi_version) return false;
    static_cast<void>(backend());  // tries the forms before the lock is taken
    const Hold hold(*this);
    if (tables.owner != nullptr) return false;
    start();
    const AddressRange range = object_around(&tables);
    tables.owner = this;
    tables.begin = range.begin.value;
    tables.end = range.end.value;
    tables.previous = nullptr;
    tables.next = first_;
    if (first_ != nullptr) first_->previous = &tables;
    first_ = &tables;
    tables.chain_area = nullptr;  // both are made when they are needed
    tables.call_sites = nullptr;
    const auto claim_all = [this](auto* begin, auto* end) {
        for (; begin != end; ++begin)
            if (auto* key = used(*begin)) claim(key->identity);
    };
    claim_all(tables.functions, tables.functions_end);
    claim_all(tables.static_keys, tables.static_keys_end);
    claim_all(tables.tracepoints, tables.tracepoints_end);

    // Every place shows what its key says now: the key may have been changed before its DSO announced itself.
    places_ += static_cast<std::size_t>((tables.records_end - tables.records) + (tables.branches_end - tables.branches));
    update_.begin();
    bool complete = update_.reserve(places_);
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record)
        if (bind(*record, tables) && backend().capabilities.form != Form::pointer)
            __atomic_store_n(record->slot, key_of(*record)->target, __ATOMIC_RELEASE);
    static_cast<void>(confirm_wanted_sites(tables));
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record)
        if (record->object != nullptr) complete = complete && update_.show(*record, key_of(*record)->target, 0);
    for (BranchRecord* record = tables.branches; record != tables.branches_end; ++record)
        if (bind(*record)) complete = complete && update_.show(*record, key_of(*record)->enabled != 0, 0);
    if (complete && update_.apply(Between::anything)) return true;

    // Still right, through slots and tests; a later update does not try again, so that it cannot fail where this did.
    if (backend().writing == nullptr) return true;
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) {
        for_each_site(*record, [](CallSite& site) { site.state = CallSiteState::refused; });
        if (record->state == TrampolineState::slot) record->state = TrampolineState::slot_refused;
    }
    for (BranchRecord* record = tables.branches; record != tables.branches_end; ++record)
        if (record->state == BranchState::patched) record->state = BranchState::refused;
    return true;
}

bool Registry::leave(Tables& tables) noexcept {
    const Hold hold(*this);
    if (exiting_ || tables.owner != this) return false;
    if (is_executable(tables)) {
        exiting_ = true;
        return false;
    }
    unbind_all(tables);
    (tables.previous != nullptr ? tables.previous->next : first_) = tables.next;
    if (tables.next != nullptr) tables.next->previous = tables.previous;
    abandon_code_in(tables);
    forget_sites(tables);
    tables.owner = nullptr;
    if (tables.chain_area != nullptr) static_cast<ChainArea*>(tables.chain_area)->close();
    if (backend().writing != nullptr) backend().writing->forget(range_of(tables));
    return true;
}

void Registry::unbind_all(Tables& tables) noexcept {
    places_ -= static_cast<std::size_t>((tables.records_end - tables.records) + (tables.branches_end - tables.branches));
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) unbind(*record);
    for (BranchRecord* record = tables.branches; record != tables.branches_end; ++record) unbind(*record);
    // Places elsewhere that show a key which is defined here: their DSO needs this one and has left before. If it did not, they
    // are let go, so that nothing of this DSO is read again.
    const auto let_go = [this](auto*& list) {
        while (list != nullptr) unbind(*list);
    };
    for_each_of(tables, &Tables::functions, &Tables::functions_end, [&](FunctionKey& key) { let_go(key.jump.trampolines); });
    for_each_of(tables, &Tables::static_keys, &Tables::static_keys_end,
                [&](detail::StaticKeyData& key) { let_go(key.branch.sites); });
    for_each_of(tables, &Tables::tracepoints, &Tables::tracepoints_end, [&](TracepointKey& key) {
        let_go(key.outer.trampolines);
        let_go(key.inner.trampolines);
        let_go(key.branch.sites);
        forget_callbacks(key);
    });
}

// What other DSOs lead into the one that leaves: functions go back to their default, or do nothing; callbacks are detached.
void Registry::abandon_code_in(const Tables& leaving) noexcept {
    const AddressRange range = range_of(leaving);
    update_for_good([&] {
        bool complete = true, any = false;
        for_each(&Tables::functions, &Tables::functions_end, [&](FunctionKey& key) {
            if (!range.contains(Address::of(key.jump.target))) return;
            const bool default_leaves = range.contains(Address::of(key.default_target));
            void* target = default_leaves ? key.jump.null_target : key.default_target;
            // Without memory, or a target: the calls that are left will fault, as they would with any function pointer.
            if (target == nullptr || !complete) return;
            any = true;
            complete = update_.set(key.jump, target, 0);
        });
        return any && complete;
    });
    for_each(&Tables::tracepoints, &Tables::tracepoints_end, [&](TracepointKey& key) { drop_callbacks_in(key, range); });
}

void detail::enter_dso(Tables& tables) noexcept {
    if (Registry::instance().enter(tables)) Patterns::instance().arrived(tables);
}

void detail::leave_dso(Tables& tables) noexcept {
    // Callables whose code leaves with this DSO are to be destroyed before it does.
    if (Patterns::instance().leave(tables)) reclaim_retired();
}

}  // namespace dynfunc
