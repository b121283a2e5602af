// SPDX-License-Identifier: MIT
#include "update.hpp"

#include <dynfunc/strict_updates.hpp>

#include <cstring>

#include "arch.hpp"
#include "backend.hpp"

namespace dynfunc {
namespace {

using detail::BranchRecord;
using detail::BranchState;
using detail::Jump;
using detail::TrampolineRecord;
using detail::TrampolineState;

// What one key may change: two jumps, a branch, a list.
constexpr std::size_t changes_of_one_key = 4;

}  // namespace

void Update::begin() noexcept {
    changes_.clear();
    trampolines_.clear();
    branches_.clear();
    sites_.clear();
    for (auto* pokes : {&trampoline_pokes_, &site_pokes_, &branch_pokes_}) pokes->clear();
}

void Update::abandon() noexcept {
    changes_.abandon();
    trampolines_.abandon();
    branches_.abandon();
    sites_.abandon();
    for (auto* pokes : {&trampoline_pokes_, &site_pokes_, &branch_pokes_}) pokes->abandon();
    strict_.abandon();
}

bool Update::reserve(std::size_t places) noexcept {
    return changes_.reserve(changes_of_one_key) && trampolines_.reserve(places) && branches_.reserve(places) &&
           sites_.reserve(places) && trampoline_pokes_.reserve(places) && site_pokes_.reserve(places) &&
           branch_pokes_.reserve(places) && (!arch::steps_over_sites() || strict_.reserve(places));
}

namespace {

bool may_patch(const TrampolineRecord& record) noexcept { return backend().writing != nullptr && is_patchable(record); }

bool does_nothing(const TrampolineRecord& record, const void* target) noexcept {
    const auto* jump = static_cast<const Jump*>(*record.key);
    return target == jump->null_target && jump->returns_void;
}

// Otherwise the null target is jumped to, as any other: it returns by itself.
bool returns_at_once(const TrampolineRecord& record, const void* target) noexcept {
    return does_nothing(record, target) && arch::capabilities().swaps_return;
}

}  // namespace

Update::Shown Update::shown(TrampolineRecord& record, void* target) noexcept {
    if (!may_patch(record)) return {&record, record.state, record.current};
    const Address site = Address::of(record.code);
    const auto code =
        arch::encode_site(arch::SiteKind::tail_call, site, returns_at_once(record, target) ? Address{} : Address::of(target));
    if (!code) return {&record, TrampolineState::slot_far, record.original};
    std::uint64_t word = record.original;
    std::memcpy(&word, code->bytes.data(), code->size);
    return {&record, TrampolineState::patched, word};
}

bool Update::show(TrampolineRecord& record, void* target, std::size_t element) noexcept {
    const Address trampoline = start_of(record);
    const bool leads = lead_sites_ && may_patch(record) && !does_nothing(record, target);
    bool complete = true;
    for_each_site(record, [&](CallSite& site) {
        complete = complete && show(site, leads ? Address::of(target) : trampoline, trampoline, element);
    });
    if (!complete) return false;
    const Shown planned = shown(record, target);
    if (!trampolines_.push_back(planned)) return false;
    if (planned.word == record.current) return true;
    const auto size = static_cast<std::uint8_t>(arch::capabilities().word_bytes);
    if (trampoline_pokes_.push_back({Address::of(record.code), record.current, planned.word, element, size})) return true;
    trampolines_.truncate(trampolines_.size() - 1);  // a record must not claim a word that is not going to be written
    return false;
}

// bytes before    x86-64: e8|e9|0f 8x   distance to the trampoline, or to the target; arm64: bl or b with it
// bytes after             the same      the other
bool Update::show(CallSite& site, Address target, Address trampoline, std::size_t element) noexcept {
    if (site.state != CallSiteState::ready) return true;
    auto distance = arch::encode_reference(site.field, site.current, target);
    if (!distance) distance = arch::encode_reference(site.field, site.current, trampoline);  // out of reach of the target
    if (!distance || *distance == site.current) return true;
    if (!sites_.push_back({&site, *distance})) return false;
    if (site_pokes_.push_back({site.field, site.current, *distance, element, sizeof *distance})) return true;
    sites_.truncate(sites_.size() - 1);
    return false;
}

bool Update::show(BranchRecord& record, bool enabled, std::size_t element) noexcept {
    if (record.state != BranchState::patched) return true;
    const Address site = site_of(record);
    const std::int32_t& distance = record.targets[enabled ? 1 : 0];
    const auto code =
        arch::encode_site(arch::SiteKind::branch, site, distance == 0 ? Address{} : Address::of(&distance) + distance);
    if (!code) return true;  // further than the linker let it be: cannot happen, and would leave the site at its test
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, code->bytes.data(), code->size);
    if (!branches_.push_back({&record, bytes})) return false;
    if (bytes == record.current || branch_pokes_.push_back({site, record.current, bytes, element, code->size})) return true;
    branches_.truncate(branches_.size() - 1);
    return false;
}

bool Update::set(Jump& jump, void* target, std::size_t element) noexcept {
    if (!changes_.push_back({reinterpret_cast<std::uintptr_t*>(&jump.target), reinterpret_cast<std::uintptr_t>(target), &jump}))
        return false;
    for (TrampolineRecord* record = jump.trampolines; record != nullptr; record = record->next)
        if (!show(*record, target, element)) return false;
    return true;
}

bool Update::set(detail::BranchKey& key, bool enabled, std::size_t element) noexcept {
    if (!changes_.push_back({&key.enabled, enabled, nullptr})) return false;
    for (BranchRecord* record = key.sites; record != nullptr; record = record->next)
        if (!show(*record, enabled, element)) return false;
    return true;
}

bool Update::set(const void** word, const void* value) noexcept {
    return changes_.push_back({reinterpret_cast<std::uintptr_t*>(word), reinterpret_cast<std::uintptr_t>(value), nullptr});
}

// Gives every word the value of its change and the change the word's.
void Update::exchange() noexcept {
    for (Change& change : changes_) {
        const std::uintptr_t old = *change.word;
        // (A) (H) (K) release: what the caller wrote before is visible to whoever acts on the new value. Pairs with the load in
        // the stub, in the slot jump (both followed by the jump that depends on it), in the generic call site, in the test of a
        // branch site and in `iterate`.
        __atomic_store_n(change.word, change.value, __ATOMIC_RELEASE);
        if (change.jump != nullptr)
            for (TrampolineRecord* record = change.jump->trampolines; record != nullptr; record = record->next)
                if (has_slot(*record)) __atomic_store_n(record->slot, change.jump->target, __ATOMIC_RELEASE);
        change.value = old;
    }
}

Result<void> Update::write(Between between) noexcept {
    // Code that is being loaded is run by nobody.
    if (updates_are_strict() && between == Between::line)
        return strict_.commit({trampoline_pokes_, site_pokes_, branch_pokes_});
    return TextPoke(*backend().writing).commit({trampoline_pokes_, site_pokes_, branch_pokes_}, between);
}

Result<void> Update::apply(Between between) noexcept {
    for (const auto* pokes : {&trampoline_pokes_, &site_pokes_, &branch_pokes_})
        if (auto intact = TextPoke::verify(*pokes); !intact) return intact;
    exchange();
    if (trampoline_pokes_.empty() && site_pokes_.empty() && branch_pokes_.empty()) {
        // (G) who comes after the update returned loads the new value: the store is out of this core's buffer.
        __sync_synchronize();
    } else if (auto written = write(between); !written) {
        exchange();
        return written;
    }
    for (const Shown& shown : trampolines_) {
        shown.record->state = shown.state;
        shown.record->current = shown.word;
        if (shown.word != shown.record->original) shown.record->was_written = 1;
    }
    for (const ShownBranch& shown : branches_) shown.record->current = shown.bytes;
    for (const ShownSite& shown : sites_) {
        shown.site->current = shown.distance;
        shown.site->was_written = true;
    }
    return {};
}

}  // namespace dynfunc
