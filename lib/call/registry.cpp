// SPDX-License-Identifier: MIT
#include "registry.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/auxv.h>

#include <new>

#include "backend.hpp"
#include "os.hpp"

namespace dynfunc {
namespace {

using detail::FunctionKey;
using detail::Tables;
using detail::TrampolineRecord;
using detail::TrampolineState;

// Where the DSO that holds `inside` is mapped. Asks the dynamic linker's lock-free index (glibc 2.35), because this runs inside
// dlopen() and dlclose().
AddressRange mapped_range(const void* inside) noexcept {
    dl_find_object found;
    if (_dl_find_object(const_cast<void*>(inside), &found) != 0) return {};
    return {Address::of(found.dlfo_map_start), Address::of(found.dlfo_map_end)};
}

AddressRange range_of(const Tables& tables) noexcept { return {Address{tables.begin}, Address{tables.end}}; }

// The executable leaves only when the process ends; then nothing is worth changing any more.
bool is_executable(const Tables& tables) noexcept { return range_of(tables).contains(Address{getauxval(AT_PHDR)}); }

FunctionKey* key_of(const TrampolineRecord& record) noexcept {
    return static_cast<FunctionKey*>(const_cast<void*>(*record.key));
}

}  // namespace

Registry& Registry::instance() noexcept {
    alignas(Registry) static std::byte storage[sizeof(Registry)];
    static Registry* const registry = new (storage) Registry;
    return *registry;
}

Registry::Hold::Hold(Registry& registry) noexcept : registry_(registry) {
    const bool raw_child = registry.fork_watch_.is_new_process();
    if (raw_child) registry.lock_.reset_in_child();  // whoever held it stayed in the parent
    registry.lock_.lock();
    if (raw_child) registry.adopt_child(Copied::at_any_moment);
}

void Registry::start() noexcept {
    if (started_) return;
    started_ = true;
    fork_watch_.arm();
    pthread_atfork([] { instance().lock_.lock(); },  //
                   [] { instance().lock_.unlock(); },
                   [] {
                       instance().adopt_child(Copied::under_the_lock);
                       instance().lock_.unlock();
                   });
}

void Registry::adopt_child(Copied copied) noexcept {
    fork_watch_.arm();
    if (backend().writing != nullptr) {
        // A refusal shows at the next update, which then changes nothing and says why.
        static_cast<void>(os::register_sync_cores());
        static_cast<void>(backend().writing->adopt_in_child());
    }
    // Slots and text may differ from the keys: half an update was copied, or the parent went on writing to pages that were
    // still shared.
    if (copied == Copied::at_any_moment || backend().capabilities.writer == TextWriter::memory_file) rebuild_caches();
}

void Registry::rebuild_caches() noexcept {
    changes_.abandon();
    planned_.abandon();
    pokes_.abandon();
    for (Tables* tables = first_; tables != nullptr; tables = tables->next) {
        for (FunctionKey* entry = tables->keys; entry != tables->keys_end; ++entry)
            if (FunctionKey* key = used(*entry)) key->in_batch = false;
        for (TrampolineRecord* record = tables->records; record != tables->records_end; ++record) {
            if (!has_slot(*record)) continue;
            void* target = key_of(*record)->target;
            __atomic_store_n(record->slot, target, __ATOMIC_RELEASE);
            record->current = read_word(Address::of(record->code));
            if (!plan(*record, target, 0)) return;
        }
    }
    static_cast<void>(apply_changes());
}

// The key that an entry of a DSO's table stands for; null if nobody uses it.
//     entry.self == &entry        the usual case (null: an entry that no compiler made)
//     elsewhere, in no table      the program is built without -fPIC and the linker gave it a copy of the key (R_X86_64_COPY);
//                                 everybody, the defining DSO included, uses that
//     elsewhere, in a table       another DSO defines the same name and comes first in the search order: it has the key
FunctionKey* Registry::used(FunctionKey& entry) const noexcept {
    if (entry.abi != detail::abi_version) return nullptr;
    auto* key = static_cast<FunctionKey*>(entry.self);
    if (key == nullptr || key == &entry) return &entry;
    for (const Tables* tables = first_; tables != nullptr; tables = tables->next)
        if (tables->keys <= key && key < tables->keys_end) return nullptr;
    return key;
}

// A key is served by the copy of the library that meets it first; every other copy leaves its own trampolines to that key in
// the form that asks it, which stays right whoever changes it.
bool Registry::claim(FunctionKey& key) noexcept {
    if (key.abi != detail::abi_version) return false;
    if (key.owner == nullptr) key.owner = this;
    return key.owner == this;
}

bool Registry::bind(TrampolineRecord& record) noexcept {
    if (record.code == nullptr) return false;  // the table's empty entry
    FunctionKey* key = key_of(record);
    if (key == nullptr || !claim(*key)) return false;
    record.original = record.current = read_word(Address::of(record.code));
    record.next = key->trampolines;
    key->trampolines = &record;
    const auto code = std::span(static_cast<const std::byte*>(record.code), 12);
    const bool aligned = Address::of(record.code).value % sizeof(std::uint64_t) == 0;
    const bool intact = aligned && arch::is_slot_jump(code, Address::of(record.code), Address::of(record.slot));
    const Form form = backend().capabilities.form;
    const TrampolineState state = form == Form::pointer ? TrampolineState::asks_key
                                  : !intact             ? TrampolineState::slot_foreign
                                                        : TrampolineState::slot;
    record.state = state;
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
    record.state = TrampolineState::unbound;
}

void Registry::enter(Tables& tables) noexcept {
    if (tables.abi != detail::abi_version) return;
    static_cast<void>(backend());  // tries the forms before the lock is taken
    const Hold hold(*this);
    if (tables.owner != nullptr) return;
    start();
    const AddressRange range = mapped_range(&tables);
    tables.owner = this;
    tables.begin = range.begin.value;
    tables.end = range.end.value;
    tables.previous = nullptr;
    tables.next = first_;
    if (first_ != nullptr) first_->previous = &tables;
    first_ = &tables;
    for (FunctionKey* entry = tables.keys; entry != tables.keys_end; ++entry)
        if (FunctionKey* key = used(*entry)) claim(*key);

    // Every trampoline becomes what its key says now: the function may have been retargeted before its DSO announced itself.
    begin_update();
    bool complete = true;
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) {
        if (!bind(*record)) continue;
        void* target = key_of(*record)->target;
        if (backend().capabilities.form != Form::pointer) __atomic_store_n(record->slot, target, __ATOMIC_RELEASE);
        complete = plan(*record, target, 0) && complete;
    }
    if (!apply_changes() || !complete) {
        // Still right, through the slots; a later retarget() does not try again, so that it cannot fail where this did.
        for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record)
            if (record->state == TrampolineState::slot && backend().writing != nullptr)
                record->state = TrampolineState::slot_refused;
    }
}

void Registry::leave(Tables& tables) noexcept {
    const Hold hold(*this);
    if (exiting_ || tables.owner != this) return;
    if (is_executable(tables)) {
        exiting_ = true;
        return;
    }
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) unbind(*record);
    // Trampolines elsewhere to a function that is defined here: their DSO needs this one and has left before. If it did not,
    // they are let go, so that nothing of this DSO is read again.
    for (FunctionKey* entry = tables.keys; entry != tables.keys_end; ++entry)
        if (FunctionKey* key = used(*entry))
            while (key->trampolines != nullptr) unbind(*key->trampolines);
    (tables.previous != nullptr ? tables.previous->next : first_) = tables.next;
    if (tables.next != nullptr) tables.next->previous = tables.previous;
    abandon_targets_in(tables);
    tables.owner = nullptr;
    if (backend().writing != nullptr) backend().writing->forget(range_of(tables));
}

// A function of another DSO that points into the one that leaves goes back to its default, or does nothing.
void Registry::abandon_targets_in(const Tables& leaving) noexcept {
    const AddressRange range = range_of(leaving);
    begin_update();
    for (Tables* tables = first_; tables != nullptr; tables = tables->next) {
        for (FunctionKey* entry = tables->keys; entry != tables->keys_end; ++entry) {
            FunctionKey* key = used(*entry);
            if (key == nullptr || key->owner != this || !range.contains(Address::of(key->target))) continue;
            const bool default_leaves = range.contains(Address::of(key->default_target));
            void* target = default_leaves ? key->null_target : key->default_target;
            if (target == nullptr) continue;
            // Without memory: the calls that are left will fault, as they would with any function pointer.
            if (!changes_.push_back({key, target}) || !plan_all(*key, target, 0)) return;
        }
    }
    if (!changes_.empty()) static_cast<void>(apply_changes());
}

void detail::enter_dso(Tables& tables) noexcept { Registry::instance().enter(tables); }
void detail::leave_dso(Tables& tables) noexcept { Registry::instance().leave(tables); }

}  // namespace dynfunc
