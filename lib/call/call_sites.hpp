// SPDX-License-Identifier: MIT
// The call sites of one object: places that lead, or may lead, to its trampolines (find_call_sites.hpp).
#pragma once

#include <dynfunc/detail/tables.hpp>

#include <cstdint>

#include "arch.hpp"
#include "find_call_sites.hpp"
#include "scratch.hpp"

namespace dynfunc {

enum class CallSiteState : std::uint8_t {
    unread,     // its bytes would lead a branch to a trampoline; whether they are one is not known yet
    no_branch,  // they are not, or no unwind table says where its function begins
    across,     // one store does not replace it
    refused,    // it could not be written when its object was loaded
    foreign,    // somebody else wrote there, and what it led to had to leave
    ready,      // shows what its trampoline shows, or leads to the trampoline
};

struct CallSite {
    Address field;          // of the distance
    std::uint32_t current;  // what stands there
    std::uint32_t next;     // of the same trampoline, counted from 1; 0: the last one
    CallSiteState state;
    bool was_written;
};

// Threads: the text lock is held around every call.
class CallSiteTable {
public:
    // Of the object that has `tables`, whose trampolines are bound, and links each site to its trampoline. Null: no memory. An
    // object whose text cannot be read has an empty table, which says why.
    static CallSiteTable* make(detail::Tables& tables) noexcept;
    static void free(CallSiteTable* table) noexcept;
    static CallSiteTable* of(const detail::Tables& tables) noexcept { return static_cast<CallSiteTable*>(tables.call_sites); }

    // Finds out about the unread sites of a trampoline, and about those around them. False: no memory; then they stay unread.
    bool confirm(detail::TrampolineRecord& record) noexcept;

    CallSite& at(std::uint32_t number) noexcept { return sites_.begin()[number - 1]; }
    std::size_t size() const noexcept { return sites_.size(); }
    const CallSite* begin() const noexcept { return sites_.begin(); }
    const CallSite* end() const noexcept { return sites_.end(); }
    const char* reason() const noexcept { return reason_; }  // why it is empty; empty if it was read
    std::size_t text_bytes() const noexcept { return text_bytes_; }
    std::uint64_t nanoseconds() const noexcept { return nanoseconds_; }

    // Sites where somebody else wrote are not written any more.
    void give_up_foreign() noexcept;

    // A copy of this process's memory was made while it was being written.
    void abandon_scratch() noexcept { references_.abandon(); }

private:
    [[nodiscard]] bool find(detail::Tables& tables) noexcept;  // false: no memory
    bool confirm_around(CallSite& site, AddressRange& function) noexcept;

    std::optional<ObjectText> text_;
    Scratch<CallSite> sites_;  // by address
    Scratch<arch::Reference> references_;
    const char* reason_ = "";
    std::size_t text_bytes_ = 0;
    std::uint64_t nanoseconds_ = 0;  // that finding and confirming took so far
};

// Calls visit(site) for each of a trampoline's.
template <class Visit>
void for_each_site(const detail::TrampolineRecord& record, Visit&& visit) {
    CallSiteTable* table = record.object != nullptr ? CallSiteTable::of(*record.object) : nullptr;
    if (table == nullptr) return;
    for (std::uint32_t number = record.first_site; number != 0; number = table->at(number).next) visit(table->at(number));
}

// Their alignment; no trampoline is smaller. (site_<machine>.hpp lays them out so.)
inline constexpr std::uintptr_t trampoline_bytes = 16;

// What call sites lead to as linked.
inline Address start_of(const detail::TrampolineRecord& record) noexcept {
    return Address{reinterpret_cast<std::uintptr_t>(record.code) & ~(trampoline_bytes - 1)};
}

// Whether a trampoline is bound and holds what the library expects, so that it and its call sites may be patched in a process
// that patches.
inline bool is_patchable(const detail::TrampolineRecord& record) noexcept {
    using enum detail::TrampolineState;
    return record.state == slot || record.state == slot_far || record.state == patched;
}

}  // namespace dynfunc
