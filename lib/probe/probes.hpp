// SPDX-License-Identifier: MIT
// All probed places of the process, and who listens there.
//
// INV-place: under the probes lock, an armed place has its jump (or breakpoint) in the text, and whoever comes there finds the
// place's list of consumers, or none. A place is never forgotten, and its stub never unmapped: threads may be in it for as long
// as they like. It is used again when the same address is probed again.
#pragma once

#include <dynfunc/probe.hpp>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "guarded_poke.hpp"
#include "hit_threads.hpp"
#include "jump_plan.hpp"
#include "lock.hpp"
#include "module_code.hpp"
#include "near_memory.hpp"
#include "new_code.hpp"
#include "registry.hpp"
#include "site_forms.hpp"

namespace dynfunc {

struct Place;

struct detail::Consumer : Retired {
    Place* place = nullptr;
    ProbeOptions options;
    std::uint32_t counter = 0;
    bool is_removed = false;        // atomic
    std::uint64_t hits_before = 0;  // of the counter, when it was given to this one
    std::uint64_t missed_before = 0;
};

// A probed address.
struct Place {
    HitSite hit;  // what the stub has the address of
    SiteClass site_class{};
    arch::Displaced displaced;
    Replacement replacement;
    Error why{};          // why no better class, if there is one
    Address stub, entry;  // where the jump leads: the stub, or a jump to it
    arch::Stub code;
    bool is_function_begin = false;
    bool is_forced = false;  // a breakpoint, though a jump might fit
    bool is_armed = false;
    bool is_gone = false;             // its object is not loaded any more
    mutable bool is_loading = false;  // the dynamic linker's index does not have its object yet
    bool is_chosen = false;           // by the attach that goes on
    std::size_t chosen_as = 0;
    std::atomic<bool> is_abandoned{false};  // in the list of those
    Place* next_abandoned = nullptr;
    std::vector<detail::Consumer*> consumers;  // by priority, ties by age

    // Whether they are the bytes of the place: `code` is as many as code_size().
    std::size_t code_size() const noexcept { return std::max<std::size_t>(replacement.size, displaced.size()); }
    bool is_code(std::span<const std::byte> code) const noexcept;
    // The bytes that nobody else may change while it is armed: what it displaces, and what a jump reads as its distance.
    AddressRange footprint() const noexcept;
};

class Probes {
public:
    static Probes& instance() noexcept;

    // For whoever takes what he can get: elements that are refused for what stands there are left out of the result.
    struct Tolerance {
        Address loading{};  // the base of a shared object that the dynamic linker is loading, or null
        std::vector<Error> refused{};
    };
    Result<std::vector<Probe>> attach(std::span<const ProbeRequest> requests, Tolerance* tolerance = nullptr);
    // Not waiting for anybody. Each consumer is retired.
    void detach(std::span<detail::Consumer* const> consumers) noexcept;
    // A handler asked for it.
    void remove(detail::Consumer& consumer) noexcept;
    ProbeInfo info(const detail::Consumer& consumer);
    void keep_in_children(InChildren what);
    // Whether threads may have to trap at some place, ever.
    bool may_trap() const noexcept { return may_trap_.load(std::memory_order_relaxed); }

private:
    struct Module {
        using Identity = std::array<std::byte, 256>;  // the begin of its table of functions

        AddressRange range;
        Identity identity;
        ModuleCode code;
        std::vector<AddressRange> patched;  // by the library itself; ascending
        bool was_loading = false;
    };
    class Hold;

    Result<void> start() noexcept;
    Result<const ModuleCode*> module_around(Address at);
    Result<Place*> place_at(Address at, const ProbeOptions& options, std::vector<Place*>& made);
    Place* find_usable(Address at, AllowBreakpoint breakpoint);
    template <class Visit>
    void for_each_claimed(AddressRange range, Visit&& visit) const;
    bool is_claimed(const Place& place) const noexcept;
    bool is_patched(AddressRange range) const noexcept;
    void forget_unloaded(AddressRange module);
    Result<std::unique_ptr<Place>> plan(Address at, const ProbeOptions& options);
    Result<void> try_form(Place& place, const SiteForm& form, const arch::JumpSite& site);
    Result<void> try_breakpoint(Place& place, const arch::JumpSite& site);
    Result<void> make_stub(Place& place);
    void forget_stub(Place& place) noexcept;
    void forget(Place& place) noexcept;
    Result<void> write(std::span<Place* const> made);
    Result<void> arm(std::span<Place* const> places);
    void disarm(std::span<Place* const> places) noexcept;
    void disarm_under_text_lock(std::span<Place* const> places) noexcept;
    bool is_still_there(const Place& place) const noexcept;
    // A bit for each of 64 at most.
    static std::uint64_t are_still_there(std::span<const Place* const> places) noexcept;
    Result<std::uint32_t> take_counter();
    static void publish(Place& place, ConsumerList* list) noexcept;
    void disarm_abandoned() noexcept;
    static ConsumerList* make_list(std::span<detail::Consumer* const> consumers) noexcept;
    static void adopt(Copied copied) noexcept;
    bool is_trap_blocked();
    void drop_all() noexcept;
    static void reclaim_consumer(Retired& item) noexcept;

    RankedMutex lock_{LockRank::probes};
    ForkPart fork_part_{lock_, &adopt};
    bool started_ = false;
    InChildren in_children_ = InChildren::keep;
    bool is_copied_half_way_ = false;   // by a raw clone: what follows here is not to be relied on
    Address loading_{};                 // of this attach
    std::optional<bool> trap_blocked_;  // what was found in this attach
    std::atomic<bool> may_trap_{false};
    std::vector<Module> modules_;
    const Module* seen_ = nullptr;                           // to be loaded, since the lock was taken
    std::multimap<Address, std::unique_ptr<Place>> places_;  // of each address one that is armed at most
    NearMemory memory_;
    std::vector<std::uint32_t> free_counters_;
    std::uint32_t counters_ = 0;
    std::vector<std::unique_ptr<Place>> gone_;
    std::atomic<Place*> abandoned_{nullptr};  // places all of whose consumers asked to be removed
    NewCode unwritten_;
};

}  // namespace dynfunc
