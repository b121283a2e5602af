// SPDX-License-Identifier: MIT
// One update: many keys, all or none.
//
//     1. plan       each place that shows a key (trampoline, call site, branch site) has its new bytes encoded
//     2. verify     all bytes that will change hold what the library wrote last: bytes_changed ends here
//     3. keys and slots, in the order in which they were set; then text; then one membarrier
//
// Nothing was written before 3. In between, a thread goes the old or the new way of each key, through whichever of key, slot
// and text its place uses.
#pragma once

#include <dynfunc/detail/tables.hpp>
#include <dynfunc/result.hpp>

#include "call_sites.hpp"
#include "scratch.hpp"
#include "strict_poke.hpp"
#include "text_poke.hpp"

namespace dynfunc {

// Whether updates reach the trampoline through its slot; otherwise it asks the key.
inline bool has_slot(const detail::TrampolineRecord& record) noexcept {
    return record.state != detail::TrampolineState::unbound && record.state != detail::TrampolineState::asks_key;
}

// Where a branch site is.
inline Address site_of(const detail::BranchRecord& record) noexcept { return Address::of(&record.site) + record.site; }

// Threads: the text lock is held around every call.
class Update {
public:
    void begin() noexcept;
    // From here on an update of so many places, with the changes of one key, needs no memory.
    [[nodiscard]] bool reserve(std::size_t places) noexcept;

    // What is to change. False: no memory; then the update must not be applied. `element` is for errors.
    [[nodiscard]] bool set(detail::Jump& jump, void* target, std::size_t element) noexcept;
    [[nodiscard]] bool set(detail::BranchKey& key, bool enabled, std::size_t element) noexcept;
    // A word that no code is a cache of.
    [[nodiscard]] bool set(const void** word, const void* value) noexcept;

    // Whether call sites lead where their trampolines lead, from the next update on; otherwise to the trampolines.
    void lead_sites(bool lead) noexcept { lead_sites_ = lead; }

    // What one place is to show, its key as it is; a trampoline with its call sites.
    [[nodiscard]] bool show(detail::TrampolineRecord& record, void* target, std::size_t element) noexcept;
    [[nodiscard]] bool show(detail::BranchRecord& record, bool enabled, std::size_t element) noexcept;

    // Errors: bytes_changed, text_not_writable, out_of_memory, sync_failed; then everything is as it was.
    Result<void> apply(Between between = Between::line) noexcept;

    // Leaves its memory alone, which may be half-way through a change.
    void abandon() noexcept;

private:
    // Gives a word a value; once it was exchanged, the value is the old one.
    struct Change {
        std::uintptr_t* word;
        std::uintptr_t value;
        detail::Jump* jump;  // whose target the word is, or null
    };
    struct Shown {
        detail::TrampolineRecord* record;
        detail::TrampolineState state;
        std::uint64_t word;
    };
    struct ShownBranch {
        detail::BranchRecord* record;
        std::uint64_t bytes;
    };

    struct ShownSite {
        CallSite* site;
        std::uint32_t distance;
    };

    static Shown shown(detail::TrampolineRecord& record, void* target) noexcept;
    [[nodiscard]] bool show(CallSite& site, Address target, Address trampoline, std::size_t element) noexcept;
    void exchange() noexcept;

    Scratch<Change> changes_;
    Scratch<Shown> trampolines_;
    Scratch<ShownBranch> branches_;
    Scratch<ShownSite> sites_;
    Result<void> write(Between between) noexcept;

    Scratch<Poke> trampoline_pokes_, site_pokes_, branch_pokes_;
    StrictPoke strict_;
    bool lead_sites_ = false;
};

}  // namespace dynfunc
