// SPDX-License-Identifier: MIT
// All probed places of the process.
//
// INV-place: under the probes lock, an armed place has its jump (or breakpoint) in the text, and whoever comes there finds the
// place's list of consumers, or none. A place is never forgotten, and its stub never unmapped: threads may be in it for as long
// as they like. It is used again when the same address is probed again.
#pragma once

#include <dynfunc/detail/wrap_core.hpp>
#include <dynfunc/probe.hpp>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "guarded_poke.hpp"
#include "hit.hpp"
#include "jump_plan.hpp"
#include "module_code.hpp"
#include "near_memory.hpp"
#include "new_code.hpp"
#include "site_forms.hpp"
#include "stub_frames.hpp"

namespace dynfunc {

// A probed address.
struct Place {
    HitSite hit;  // what the stub has the address of
    SiteClass site_class{};
    arch::Displaced displaced;
    Replacement replacement;
    Errc why{};  // why no better class, if there is one, and where
    int why_os_error = 0;
    Address why_at;
    Address stub, entry;  // where the jump leads: the stub, or a jump to it
    arch::Stub code;
    static constexpr std::uint64_t not_entered = ~std::uint64_t{0};
    std::uint64_t entered_as_of = not_entered;  // Breakpoints::changes() then
    bool is_function_begin = false;
    bool is_forced = false;        // a breakpoint, though a jump might fit
    bool wants_unguarded = false;  // a jump where a landing pad was
    bool is_armed = false;
    bool is_gone = false;             // its object is not loaded any more
    mutable bool is_loading = false;  // the dynamic linker's index does not have its object yet
    bool is_chosen = false;           // by the attach that goes on
    std::uint32_t chosen_as = 0;
    std::atomic<bool> is_abandoned{false};  // in the list of those
    Place* next_abandoned = nullptr;
    // Of a place that is wrapped, and not probed: what its thunk leads to, and hands over.
    struct Wrapped {
        detail::WrapEntry entry;
        detail::WrapContext context;
    };
    std::unique_ptr<Wrapped> wrapped;

    // By priority, ties by age; also those that are disabled.  Threads: the probes lock is held.
    std::span<const ConsumerList::Entry> consumers() const noexcept {
        return hit.consumers == nullptr ? std::span<const ConsumerList::Entry>()
                                        : std::span(hit.consumers->begin(), hit.consumers->last + 1);
    }
    Error why_no_better() const noexcept { return {.code = why, .address = why_at, .os_error = why_os_error}; }

    // Whether they are the bytes of the place: `code` is as many as code_size().
    std::size_t code_size() const noexcept { return std::max<std::size_t>(replacement.size, displaced.size()); }
    bool is_code(std::span<const std::byte> code) const noexcept;
    // It has a jump, or is to have one whenever somebody asks for it.
    bool is_taken() const noexcept { return is_armed || is_chosen || hit.consumers != nullptr; }
    // The bytes that nobody else may change while it is taken: what it displaces, and what a jump reads as its distance.
    AddressRange footprint() const noexcept;
};

inline std::unexpected<Error> refuse(Errc code, Address at) noexcept {
    return std::unexpected(Error{.code = code, .address = at});
}

// Threads: the probes lock is held around every call but may_trap().
class Places {
public:
    // An attach begins. `loading`: the base of a shared object that the dynamic linker is loading, or null.
    void begin(Address loading) noexcept {
        loading_ = loading;
        trap_blocked_.reset();
        guarded_.reset();
        memory_.look_again();
    }
    // The lock was taken: what was loaded before may have been unloaded.
    void forget_seen() noexcept { seen_ = nullptr; }

    // The place there; a new one is added to `made`, and its code is not written yet. With `wrap` one that leads there, and
    // that no wrap has: patched_place if there is another.
    Result<Place*> place_at(Address at, const ProbeOptions& options, std::vector<Place*>& made,
                            const detail::WrapEntry* wrap = nullptr);
    // Errors: not_a_function, denied, and those of finding the object.
    Result<void> check_is_called(Address at);
    // Errors: signal_blocked, where a breakpoint would have to go in, and the options do not force it.
    Result<void> check_trap(const Place& place, const ProbeOptions& options);
    // The code of new places, for ever.
    Result<void> write(std::span<Place* const> made);
    // A place of which no code was written.
    void forget(Place& place) noexcept;
    void forget_unwritten() noexcept { unwritten_.clear(); }

    // Whether their jumps can be put back: Error::element is the first one's where not.
    Result<void> check_usable(std::span<Place* const> places);
    // All or none; Error::element is of these places.
    Result<void> arm(std::span<Place* const> places);
    void disarm(std::span<Place* const> places) noexcept;
    void disarm_under_text_lock(std::span<Place* const> places) noexcept;

    bool is_still_there(const Place& place) const noexcept;
    template <class Visit>
    void for_each(Visit&& visit) {
        for (auto& [at, place] : places_) visit(place);
    }
    // Whether threads may have to trap at some place, ever.  Threads: any.
    bool may_trap() const noexcept { return may_trap_.load(std::memory_order_relaxed); }

private:
    using Table = std::multimap<Address, Place>;  // of each address one that is taken at most
    struct Module {
        using Identity = std::array<std::byte, 256>;  // the begin of its table of functions

        AddressRange range;
        Identity identity;
        ModuleCode code;
        std::vector<AddressRange> patched;  // by the library itself; ascending
        std::vector<Address> called_to_unwind;
        bool was_loading = false;
    };

    Result<const Module*> module_around(Address at);
    Place* find_usable(Address at, AllowBreakpoint breakpoint, const detail::WrapEntry* wrap);
    template <class Visit>
    void for_each_claimed(AddressRange range, Visit&& visit) const;
    bool is_claimed(const Place& place) const noexcept;
    // Of those that were read already; null: none.
    const Module* known_module(Address at) const noexcept;
    bool is_patched(AddressRange range) const noexcept;
    bool is_trap_blocked();
    bool is_guarded(Address at);
    void forget_unloaded(AddressRange module);
    Result<Table::node_type> plan(const Module& module, Address at, const ProbeOptions& options, const detail::WrapEntry* wrap);
    Result<void> try_form(Place& place, const SiteForm& form, const arch::JumpSite& site);
    Result<void> try_breakpoint(Place& place, const arch::JumpSite& site);
    Result<void> make_stub(Place& place);
    void forget_stub(Place& place) noexcept;
    // A bit for each of 64 at most.
    static std::uint64_t are_still_there(std::span<const Place* const> places) noexcept;

    Address loading_{};  // of this attach
    // What was found in this attach.
    std::optional<bool> trap_blocked_;
    std::optional<std::vector<AddressRange>> guarded_;
    std::atomic<bool> may_trap_{false};
    std::vector<Module> modules_;
    const Module* seen_ = nullptr;  // to be loaded, since the lock was taken
    Table places_;
    std::vector<Table::node_type> gone_;
    NearMemory memory_;
    NewCode unwritten_;
    StubFrames frames_;
};

// Calls visit(place) for those that are taken, and have bytes in the range.
template <class Visit>
void Places::for_each_claimed(AddressRange range, Visit&& visit) const {
    constexpr std::ptrdiff_t most_footprint = arch::Displaced::most_bytes;
    for (auto next = places_.lower_bound(range.begin - most_footprint); next != places_.end() && next->first < range.end;
         ++next) {
        const Place& place = next->second;
        if (place.is_taken() && range.begin < place.footprint().end) visit(place);
    }
}

}  // namespace dynfunc
