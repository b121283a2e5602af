// SPDX-License-Identifier: MIT
// Everything of the process that has a key: which shared objects brought it, which trampolines and branch sites show it.
//
// The key holds the truth (a target, a bool, a list); slots and patched text are caches of it. INV-cache: under the text lock,
// outside an update, every bound trampoline and branch site leads where its key says.
#pragma once

#include <dynfunc/call_sites.hpp>
#include <dynfunc/detail/tables.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/tracepoint.hpp>

#include <atomic>
#include <optional>
#include <span>

#include "arch.hpp"
#include "call_sites.hpp"
#include "callbacks.hpp"
#include "fork_watch.hpp"
#include "lock.hpp"
#include "update.hpp"

namespace dynfunc {

// The key's identity, from a part of the key.
template <class Part>
detail::KeyIdentity& identity_of(Part& part) noexcept {
    return *reinterpret_cast<detail::KeyIdentity*>(reinterpret_cast<std::byte*>(&part) + part.identity_at);
}

// The first element whose flag an earlier one has; the flags are clear before and after.
template <class FlagOf>
std::optional<std::size_t> find_duplicate(std::size_t size, FlagOf&& flag_of) noexcept {
    std::optional<std::size_t> duplicate;
    std::size_t marked = 0;
    for (; !duplicate && marked < size; ++marked) {
        if (flag_of(marked))
            duplicate = marked;
        else
            flag_of(marked) = true;
    }
    for (std::size_t i = 0; i < marked; ++i) flag_of(i) = false;
    return duplicate;
}

// How a process was made: by fork(), by a raw clone while nobody held the lock in question, or while somebody did.
enum class Copied : std::uint8_t { under_the_lock, at_any_moment, inside_a_change };

// A lock of a layer above that a fork must not find half-way through something, and what its child does then. It is taken
// through AdoptedLock, so that no fork can miss it.
struct ForkPart {
    RankedMutex& lock;                      // of a rank below patterns
    void (*adopt)(Copied copied) noexcept;  // in the child, with both locks held
    std::atomic<ForkPart*> next{nullptr};
    bool is_listed = false;
    bool was_held = false;  // when a raw clone made this process
};

// One per copy of the library, never destroyed.
class Registry {
public:
    static Registry& instance() noexcept;
    // A fresh child process is made our own, if that is where we are. From here on a fork finds `part`, which stays for ever.
    // Threads: any.
    void adopt(ForkPart& part) noexcept;
    // What is left to a child process is the same whether objects have announced themselves or not.  Threads: any.
    void prepare() noexcept;
    // Once, before there is a thread that may fork.
    void watch_forks() noexcept;
    // What may be patched in an object: visit(range) for every trampoline and branch site, which stay what they are, and for
    // the room of generated code. Under the lock.
    template <class Visit>
    void for_each_place_in(AddressRange object, Visit&& visit);
    // Whether the distance of what may be a call site of ours has bytes in the range. Under the lock.
    bool has_call_site_in(AddressRange range) noexcept;

    // Whether it was new.
    bool enter(detail::Tables& tables) noexcept;
    // False: it is not known, or the process ends and everything stays.
    bool leave(detail::Tables& tables) noexcept;

    Result<void> retarget(std::span<const Retarget> batch) noexcept;
    Result<void> update(std::span<const KeyUpdate> batch) noexcept;
    Result<void> set_call_sites(CallSites when) noexcept;
    CallSitePatching call_sites() noexcept;
    // Under the lock, as in what visits below.
    CallSites when_call_sites() const noexcept { return call_sites_; }
    // Whether the calls of such a key are to be patched.
    bool wants_sites(const detail::Jump& jump) const noexcept {
        return call_sites_ == CallSites::always || (call_sites_ == CallSites::on_change && jump.changed != 0);
    }
    // Fills `attached`, of the same size.
    Result<void> attach(std::span<Attachment> batch, Subscription* attached) noexcept;
    // No new event reaches it. Never out_of_memory.
    Result<void> detach(detail::AttachedCallback& callback) noexcept;
    // The handle to a detached callback goes: end(callback), unless a DSO took it along and the grace period is to end it.
    template <class End>
    void let_go(detail::AttachedCallback& callback, End&& end) noexcept {
        if (!orphan(callback)) end(callback);
    }
    bool is_attached(const detail::AttachedCallback& callback) noexcept;

    // Call visit(key) for every registered key, under the lock.
    template <class Visit>
    void for_each_function(Visit&& visit) {
        const Hold hold(*this);
        for_each(&detail::Tables::functions, &detail::Tables::functions_end, visit);
    }
    // Each object.
    template <class Visit>
    void for_each_object(Visit&& visit) {
        const Hold hold(*this);
        for (const detail::Tables* tables = first_; tables != nullptr; tables = tables->next) visit(*tables);
    }
    template <class Visit>
    void for_each_static_key(Visit&& visit) {
        const Hold hold(*this);
        for_each(&detail::Tables::static_keys, &detail::Tables::static_keys_end, visit);
    }
    template <class Visit>
    void for_each_tracepoint(Visit&& visit) {
        const Hold hold(*this);
        for_each(&detail::Tables::tracepoints, &detail::Tables::tracepoints_end, visit);
    }
    // Those that `tables` brought.
    template <class Visit>
    void for_each_tracepoint_of(detail::Tables& tables, Visit&& visit) {
        const Hold hold(*this);
        for_each_of(tables, &detail::Tables::tracepoints, &detail::Tables::tracepoints_end, visit);
    }

    // Holds the text lock; first makes a fresh child process our own, if that is where we are.
    class Hold {
    public:
        explicit Hold(Registry& registry) noexcept;
        ~Hold() { registry_.lock_.unlock(); }
        Hold(const Hold&) = delete;

    private:
        Registry& registry_;
    };

private:
    template <class Visit>
    void for_each_object_with(Address inside, Visit&& visit) {
        for (detail::Tables* tables = first_; tables != nullptr; tables = tables->next)
            if (AddressRange{Address{tables->begin}, Address{tables->end}}.contains(inside)) visit(*tables);
    }

    // registry.cpp: what comes and goes
    void start() noexcept;
    void lock_all() noexcept;
    void unlock_all() noexcept;
    // The key that an entry of a DSO's table stands for; null if nobody uses it.
    //     entry.self == &entry        the usual case (null: an entry that no compiler made)
    //     elsewhere, in no table      the program is built without -fPIC and the linker gave it a copy of the key
    //     (R_X86_64_COPY);
    //                                 everybody, the defining DSO included, uses that
    //     elsewhere, in a table       another DSO defines the same name and comes first in the search order: it has the key
    template <class Key>
    Key* used(Key& entry) const noexcept {
        if (entry.identity.abi != detail::abi_version) return nullptr;
        auto* key = static_cast<Key*>(entry.identity.self);
        if (key == nullptr || key == &entry) return &entry;
        return is_in_a_table(key) ? nullptr : key;
    }
    template <class Key, class Visit>
    void for_each_of(detail::Tables& tables, Key* detail::Tables::*begin, Key* detail::Tables::*end, Visit&& visit) {
        for (Key* entry = tables.*begin; entry != tables.*end; ++entry)
            if (Key* key = used(*entry); key != nullptr && key->identity.owner == this) visit(*key);
    }
    template <class Key, class Visit>
    void for_each(Key* detail::Tables::*begin, Key* detail::Tables::*end, Visit&& visit) {
        for (detail::Tables* tables = first_; tables != nullptr; tables = tables->next) for_each_of(*tables, begin, end, visit);
    }
    bool is_in_a_table(const void* address) const noexcept;
    bool claim(detail::KeyIdentity& identity) noexcept;
    bool bind(detail::TrampolineRecord& record, detail::Tables& object) noexcept;
    bool bind(detail::BranchRecord& record) noexcept;
    void unbind(detail::TrampolineRecord& record) noexcept;
    void unbind(detail::BranchRecord& record) noexcept;
    void unbind_all(detail::Tables& tables) noexcept;
    void abandon_code_in(const detail::Tables& leaving) noexcept;
    void adopt_child(Copied copied) noexcept;
    void rebuild_caches() noexcept;

    // call_sites.cpp: which calls are patched themselves
    void change_call_sites(CallSites when) noexcept;
    bool confirm_sites(detail::TrampolineRecord& record) noexcept;
    void prepare_sites(detail::Jump& jump) noexcept;
    bool confirm_wanted_sites(detail::Tables& tables) noexcept;
    void give_up_foreign_sites() noexcept;
    // An update whose old targets are about to be unmapped: foreign bytes at a call site are no reason to keep them.
    template <class Plan>
    bool update_for_good(Plan&& plan) noexcept {
        for (bool again = false;; again = true) {
            update_.begin();
            if (!plan()) return false;
            const auto done = update_.apply();
            if (done || again || done.error().code != Errc::bytes_changed) return done.has_value();
            give_up_foreign_sites();
        }
    }
    void forget_sites(detail::Tables& tables) noexcept;

    // callbacks.cpp: who listens to tracepoints
    Result<void> check(std::span<Attachment> batch) noexcept;
    bool set_list(detail::TracepointKey& key, OwnedList* list, ChainBlock& chain, std::size_t element) noexcept;
    ChainBlock make_chain(detail::TracepointKey& key, const OwnedList& list) noexcept;
    Result<void> attach_prepared(std::span<Attachment> batch) noexcept;
    Result<void> detach_into(OwnedList* list, detail::AttachedCallback& callback) noexcept;
    Result<void> detach_in_place(detail::AttachedCallback& callback) noexcept;
    void drop_callbacks_in(detail::TracepointKey& key, AddressRange leaving) noexcept;
    bool orphan(detail::AttachedCallback& callback) noexcept;
    static void reclaim_dropped(Retired& item) noexcept;
    void forget_callbacks(detail::TracepointKey& key) noexcept;

    RankedMutex lock_{LockRank::text};
    ForkWatch fork_watch_;
    std::atomic<ForkPart*> fork_parts_{nullptr};  // in the order in which their locks may be taken; added under the lock
    bool started_ = false;
    bool exiting_ = false;
    detail::Tables* first_ = nullptr;
    CallSites call_sites_ = CallSites::never;
    std::size_t places_ = 0;  // trampolines, branch sites and call sites of all tables
    Update update_;           // the one in progress; kept for its memory
    Scratch<arch::ChainCall> chain_calls_;
    Scratch<std::byte> chain_code_;
};

template <class Visit>
void Registry::for_each_place_in(AddressRange object, Visit&& visit) {
    const auto at = [&](Address begin, std::size_t bytes) {
        visit(AddressRange{begin, begin + static_cast<std::ptrdiff_t>(bytes)});
    };
    for_each_object_with(object.begin, [&](const detail::Tables& tables) {
        for (const detail::TrampolineRecord* record = tables.records; record != tables.records_end; ++record)
            if (record->code != nullptr) at(Address::of(record->code), sizeof(std::uint64_t));
        for (const detail::BranchRecord* record = tables.branches; record != tables.branches_end; ++record)
            if (record->site != 0) at(site_of(*record), arch::capabilities().site_bytes);
        at(Address::of(tables.chains), static_cast<std::size_t>(tables.chains_end - tables.chains));
    });
}

// The lock of a part, held.
class AdoptedLock {
public:
    explicit AdoptedLock(ForkPart& part) noexcept : part_(part) {
        Registry::instance().adopt(part);
        part_.lock.lock();
    }
    ~AdoptedLock() { part_.lock.unlock(); }
    AdoptedLock(const AdoptedLock&) = delete;

private:
    ForkPart& part_;
};

}  // namespace dynfunc
