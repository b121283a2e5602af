// SPDX-License-Identifier: MIT
// One update: many functions, all or none.
//
//     1. collect    the batch becomes changes; refused input ends here
//     2. plan       each trampoline's new word is encoded
//     3. verify     every word that will change holds what the library wrote last: bytes_changed ends here
//     4. keys, then slots, then text, then one membarrier
//
// Nothing was written before 4. In between, a caller reaches the old or the new target of each function, through whichever of
// key, slot and text its trampoline uses.
#include <cstring>

#include "backend.hpp"
#include "registry.hpp"

namespace dynfunc {
namespace {

using detail::FunctionKey;
using detail::TrampolineRecord;
using detail::TrampolineState;

// Trampolines lie side by side, and everything between two of them is the library's own.
constexpr std::size_t trampoline_gap = 512;

}  // namespace

void Registry::begin_update() noexcept {
    changes_.clear();
    planned_.clear();
    pokes_.clear();
}

Result<void> Registry::collect(std::span<const Retarget> batch) noexcept {
    if (batch.empty()) return std::unexpected(Error{.code = Errc::empty_batch});
    Error refused{};
    bool accepted = true;
    for (std::size_t i = 0; accepted && i < batch.size(); ++i) {
        FunctionKey* key = batch[i].key_;
        const auto refuse = [&](Errc code) {
            refused = {.code = code, .address = Address::of(key), .element = i};
            accepted = false;
        };
        if (key == nullptr || !claim(*key)) {
            refuse(Errc::foreign_function);
            break;
        }
        void* target = batch[i].target_ != nullptr ? batch[i].target_ : key->null_target;
        if (target == nullptr)
            refuse(Errc::no_null_target);
        else if (key->in_batch)
            refuse(Errc::duplicate_in_batch);
        else if (!changes_.push_back({key, target}))
            refuse(Errc::out_of_memory);
        else
            key->in_batch = true;
    }
    for (const Change& change : changes_) change.key->in_batch = false;
    if (!accepted) return std::unexpected(refused);
    return {};
}

Registry::Planned Registry::wanted(TrampolineRecord& record, void* target) const noexcept {
    const auto state = record.state;
    const bool may_patch =
        state == TrampolineState::slot || state == TrampolineState::slot_far || state == TrampolineState::patched;
    if (backend().writing == nullptr || !may_patch) return {&record, state, record.current};
    const auto* key = static_cast<const FunctionKey*>(*record.key);
    // Otherwise the null target is jumped to, as any other: it returns by itself.
    const bool returns_at_once = target == key->null_target && key->returns_void && arch::capabilities().swaps_return;
    const Address site = Address::of(record.code);
    const auto jump = arch::encode_site(arch::SiteKind::tail_call, site, returns_at_once ? Address{} : Address::of(target));
    if (!jump) return {&record, TrampolineState::slot_far, record.original};
    std::uint64_t word = record.original;
    std::memcpy(&word, jump->bytes.data(), jump->size);
    return {&record, TrampolineState::patched, word};
}

bool Registry::plan(TrampolineRecord& record, void* target, std::size_t element) noexcept {
    const Planned planned = wanted(record, target);
    if (!planned_.push_back(planned)) return false;
    if (planned.word == record.current) return true;
    if (pokes_.push_back({Address::of(record.code), record.current, planned.word, element})) return true;
    planned_.truncate(planned_.size() - 1);  // a record must not claim a word that is not going to be written
    return false;
}

bool Registry::plan_all(const FunctionKey& key, void* target, std::size_t element) noexcept {
    for (TrampolineRecord* record = key.trampolines; record != nullptr; record = record->next)
        if (!plan(*record, target, element)) return false;
    return true;
}

// Gives every key the target of its change and the change the key's.
void Registry::exchange_targets() noexcept {
    for (Change& change : changes_) {
        void* old = change.key->target;
        // (A) release: what the caller wrote before is visible inside the target. Pairs with the load in the stub, in the slot
        // jump (both followed by the jump that depends on it) and in the generic call site.
        __atomic_store_n(&change.key->target, change.target, __ATOMIC_RELEASE);
        for (TrampolineRecord* record = change.key->trampolines; record != nullptr; record = record->next)
            if (has_slot(*record)) __atomic_store_n(record->slot, change.target, __ATOMIC_RELEASE);
        change.target = old;
    }
}

Result<void> Registry::apply_changes() noexcept {
    if (auto intact = TextPoke::verify(pokes_); !intact) return intact;
    exchange_targets();
    if (pokes_.empty()) {
        // (G) a call that begins after the update returned loads the new pointer: the store is out of this core's buffer.
        __sync_synchronize();
    } else if (auto written = TextPoke(*backend().writing).commit(pokes_, trampoline_gap); !written) {
        exchange_targets();
        return written;
    }
    for (const Planned& planned : planned_) {
        planned.record->state = planned.state;
        planned.record->current = planned.word;
    }
    return {};
}

Result<void> Registry::retarget(std::span<const Retarget> batch) noexcept {
    const Hold hold(*this);
    begin_update();
    if (auto collected = collect(batch); !collected) return collected;
    for (std::size_t i = 0; i < changes_.size(); ++i)
        if (const Change& change = changes_.begin()[i]; !plan_all(*change.key, change.target, i))
            return std::unexpected(Error{.code = Errc::out_of_memory, .element = i});
    return apply_changes();
}

Result<void> retarget_all(std::span<const Retarget> batch) noexcept { return Registry::instance().retarget(batch); }

}  // namespace dynfunc
