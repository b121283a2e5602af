// SPDX-License-Identifier: MIT
// Attaching and detaching wraps. The order of things:
//
//     attach   thunk written; jump in the text: whoever comes there goes to the original; then the wrap is shown (active)
//     detach   the wrap is hidden, jump out of the text; a grace period; as many calls ended as began; the callable destroyed
#include <dynfunc/typed_wrap.hpp>

#include <atomic>
#include <utility>

#include "backend.hpp"
#include "denied.hpp"
#include "os.hpp"
#include "probes.hpp"
#include "reclaim.hpp"
#include "trap_guard.hpp"
#include "wrap_calls.hpp"

namespace dynfunc {

using detail::WrapCore;
using detail::WrapEntry;

namespace {

// After a grace period since it was hidden: no call begins any more.
bool has_calls(const WrapCore& core) noexcept {
    // Ends first, and both in order (count_hits()): of a call whose end is seen the begin is seen too.
    const std::uint64_t ended = count_hits(core.ended) - core.ended_before;
    return ended != count_hits(core.began) - core.began_before;
}

}  // namespace

Result<void> Probes::wrap(Address at, const WrapEntry& entry, AllowBreakpoint breakpoint, WrapCore& core) {
    forget_left_hit();
    see_to_left_wraps();
    auto done = wrap_one(at, entry, breakpoint, core);
    if (done && places_.may_trap()) start_trap_guard();
    if (!done && done.error().address) {
        Error& error = done.error();
        if (os::read_memory(error.address.as<const void*>(), error.code_bytes.data(), error.code_bytes.size()))
            error.code_size = static_cast<std::uint8_t>(error.code_bytes.size());
    }
    return done;
}

Result<void> Probes::wrap_one(Address at, const WrapEntry& entry, AllowBreakpoint breakpoint, WrapCore& core) {
    static_cast<void>(backend());
    prepare_trap_guard();
    std::vector<Place*> made;
    made.reserve(1);
    const Hold hold(*this);
    if (auto started = start(); !started) return started;
    if (is_copied_half_way_) return refuse(Errc::copied_half_way, {});
    places_.begin({});

    // What is planned, and not finished, is forgotten; counters are given back.
    struct Undo {
        Probes& probes;
        std::vector<Place*>& made;
        std::array<std::uint32_t, 2> counters{};
        std::size_t taken = 0;
        bool done = false;
        ~Undo() {
            if (done) return;
            for (Place* place : made) probes.places_.forget(*place);
            probes.places_.forget_unwritten();
            for (std::size_t i = 0; i < taken; ++i) probes.free_counters_.push_back(counters[i]);
        }
    } undo{*this, made};

    if (auto called = places_.check_is_called(at); !called) return called;
    const auto place = places_.place_at(at, {.breakpoint = breakpoint}, made, &entry);
    if (!place) return std::unexpected(place.error());
    detail::WrapContext& context = (*place)->wrapped->context;
    const auto original = reinterpret_cast<void (*)()>((*place)->hit.copy.value);
    context.original.store(original, std::memory_order_relaxed);
    context.begin.store(&begin_wrapped_call, std::memory_order_release);
    if (auto done = places_.write(made); !done) return done;
    made.clear();  // from here on it stays

    while (undo.taken < undo.counters.size()) {
        const auto counter = take_counter();
        if (!counter) return std::unexpected(counter.error());
        undo.counters[undo.taken++] = *counter;
    }
    core.original = original;
    core.end = &end_wrapped_call;
    core.place = *place;
    core.began = undo.counters[0];
    core.ended = undo.counters[1];
    core.began_before = count_hits(core.began);
    core.ended_before = count_hits(core.ended);
    Place* const one = *place;
    if (!one->is_armed) {
        if (auto done = places_.arm({&one, 1}); !done) return done;
    }
    undo.done = true;
    context.active.store(&core, std::memory_order_release);
    return {};
}

void Probes::unwrap(WrapCore& core) noexcept {
    forget_left_hit();
    {
        const Hold hold(*this);
        // In a child process that dropped what its parent had, the place may have been wrapped again.
        WrapCore* active = &core;
        if (core.place->wrapped->context.active.compare_exchange_strong(active, nullptr, std::memory_order_acq_rel) &&
            core.place->is_armed && !is_copied_half_way_)
            places_.disarm({&core.place, 1});
    }
    core.reclaim = &leave_wrap;
    retire(core);
}

void Probes::leave_wrap(Retired& item) noexcept {
    Probes& probes = instance();
    auto& core = static_cast<WrapCore&>(item);
    {
        const Hold hold(probes);
        core.next_left = std::exchange(probes.left_wraps_, &core);
    }
    probes.see_to_left_wraps();
}

// Those whose last call has ended. Callables are destroyed with no lock held.
void Probes::see_to_left_wraps() noexcept {
    WrapCore* over = nullptr;
    {
        const Hold hold(*this);
        if (is_copied_half_way_) return;
        for (WrapCore** at = &left_wraps_; *at != nullptr;) {
            WrapCore& core = **at;
            if (has_calls(core)) {
                at = &core.next_left;
                continue;
            }
            *at = core.next_left;
            free_counters_.push_back(core.began);
            free_counters_.push_back(core.ended);
            core.next_left = std::exchange(over, &core);
        }
    }
    while (over != nullptr) {
        WrapCore& core = *std::exchange(over, over->next_left);
        core.destroy(core);
    }
}

namespace detail {

Result<void> attach_wrap(Address at, const WrapPlan& plan, WrapCore& core) {
    if (auto possible = Probes::are_possible(); !possible) return possible;
    WrapEntry entry;
    if (plan.integer < Registers::integer_arguments)
        entry = {plan.in_integer_register, false, static_cast<std::uint8_t>(plan.integer)};
    else if (plan.vector < Registers::vector_arguments)
        entry = {plan.in_vector_register, true, static_cast<std::uint8_t>(plan.vector)};
    else
        return refuse(Errc::no_free_register, at);
    return Probes::instance().wrap(at, entry, plan.breakpoint, core);
}

void detach_wrap(WrapCore& core, bool wait) noexcept {
    Probes::instance().unwrap(core);
    if (wait && !is_in_section()) synchronize();
}

std::uint64_t wrap_calls(const WrapCore& core) noexcept { return count_hits(core.began) - core.began_before; }

}  // namespace detail

}  // namespace dynfunc
