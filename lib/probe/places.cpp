// SPDX-License-Identifier: MIT
// Which places there are, and putting their jumps into the text and out of it.
#include "places.hpp"

#include <dlfcn.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "backend.hpp"
#include "breakpoints.hpp"
#include "denied.hpp"
#include "find_call_sites.hpp"
#include "os.hpp"
#include "registry.hpp"
#include "scratch.hpp"
#include "text_poke.hpp"

namespace dynfunc {

// Asked once in an attach: threads that begin meanwhile inherit.
bool Places::is_trap_blocked() {
    if (!trap_blocked_) trap_blocked_ = os::thread_that_blocks(SIGTRAP) != 0;
    return *trap_blocked_;
}

// Asked once in an attach, too: what is mapped then is guarded already, or never.
bool Places::is_guarded(Address at) {
    if (!guarded_) guarded_ = os::guarded_mappings();
    return std::ranges::any_of(*guarded_, [at](AddressRange mapping) { return mapping.contains(at); });
}

// Asks the dynamic linker's index, which has no lock: a fork in another thread's dlopen() leaves that held for ever.
Result<const Places::Module*> Places::module_around(Address at) {
    // Whoever attaches to many keeps all of them loaded meanwhile.
    if (seen_ != nullptr && seen_->range.contains(at)) return seen_;
    dl_find_object found{};
    const bool is_loading = _dl_find_object(at.as<void*>(), &found) != 0;
    const AddressRange range = !is_loading ? object_around(at.as<const void*>())
                               : loading_  ? object_loading_at(loading_)
                                           : AddressRange{};
    if (!range.contains(at)) return refuse(Errc::not_executable, at);
    // Another object at the same addresses has another table.
    Module::Identity identity{};
    if (found.dlfo_eh_frame != nullptr)
        static_cast<void>(os::read_memory(found.dlfo_eh_frame, identity.data(), sizeof identity));
    const auto known =
        std::ranges::find_if(modules_, [range](const Module& module) { return module.range.begin == range.begin; });
    if (known != modules_.end()) {
        // Of one that was being loaded the library's own places were not known yet.
        if (known->range.end == range.end && known->identity == identity && known->was_loading == is_loading)
            return seen_ = &*known;
        forget_unloaded(known->range);
        modules_.erase(known);
    }
    auto code = is_loading ? ModuleCode::of_loading(loading_) : ModuleCode::of(at.as<const void*>());
    if (!code) return std::unexpected(code.error());
    std::vector<AddressRange> patched;
    std::size_t places = 0;
    // The memory is taken without the lock.
    const auto for_each_place = [range](auto&& visit) {
        const Registry::Hold hold(Registry::instance());
        Registry::instance().for_each_place_in(range, visit);
    };
    for_each_place([&](AddressRange) { ++places; });
    patched.reserve(places);
    for_each_place([&](AddressRange place) {
        if (place.size() != 0 && patched.size() < patched.capacity()) patched.push_back(place);
    });
    std::ranges::sort(patched, {}, &AddressRange::begin);
    auto called = called_to_unwind(*code);
    modules_.push_back({range, identity, std::move(*code), std::move(patched), std::move(called), is_loading});
    return seen_ = &modules_.back();
}

const Places::Module* Places::known_module(Address at) const noexcept {
    const auto found = std::ranges::find_if(modules_, [at](const Module& each) { return each.range.contains(at); });
    return found == modules_.end() ? nullptr : &*found;
}

bool Place::is_code(std::span<const std::byte> code) const noexcept {
    const std::size_t written = replacement.size;
    const auto& expected = is_armed ? replacement.after : replacement.before;
    return std::equal(code.begin(), code.begin() + written, expected.begin()) &&
           std::equal(code.begin() + written, code.end(), displaced.bytes.begin() + written);
}

// Its object may be unloaded by another thread at this moment: nothing is read without asking.
bool Places::is_still_there(const Place& place) const noexcept {
    // But what one attaches to one keeps loaded.
    if (seen_ != nullptr && seen_->range.contains(place.hit.at))
        return place.is_code({place.hit.at.as<const std::byte*>(), place.code_size()});
    const Place* const one = &place;
    return are_still_there({&one, 1}) != 0;
}

std::uint64_t Places::are_still_there(std::span<const Place* const> places) noexcept {
    // What lies near each other in a page is read in one go.
    constexpr std::ptrdiff_t gap = 32;  // a handler that disables itself has all of this on its thread's stack
    constexpr std::uint64_t page_bytes = 4096;
    std::array<std::byte, os::Reading::most*(gap + sizeof(arch::Displaced::bytes))> buffer;
    std::array<os::Reading, os::Reading::most> readings;
    struct Code {
        std::size_t reading, at;  // in the buffer
    };
    std::array<Code, os::Reading::most> codes;
    std::size_t count = 0, used = 0;
    std::uint64_t loaded = 0, there = 0;
    Address begin{}, end{};  // of the last reading
    for (std::size_t i = 0; i < places.size(); ++i) {
        dl_find_object around;
        const Place& place = *places[i];
        const Address at = place.hit.at;
        if (_dl_find_object(at.as<void*>(), &around) == 0)
            place.is_loading = false;
        else if (!place.is_loading)
            continue;
        loaded |= std::uint64_t{1} << i;
        const Address code_end = at + static_cast<std::ptrdiff_t>(place.code_size());
        if (count == 0 || at < end || at - end > gap || at.value / page_bytes != begin.value / page_bytes) {
            readings[count++] = {at.as<const void*>(), buffer.data() + used, 0};
            begin = end = at;
        }
        codes[i] = {count - 1, used + static_cast<std::size_t>(at - end)};
        used += static_cast<std::size_t>(code_end - end);
        end = code_end;
        readings[count - 1].size = static_cast<std::size_t>(end - begin);
    }
    std::uint64_t read = ~std::uint64_t{0};
    if (!os::read_memory(std::span(readings).first(count)))
        for (std::size_t i = 0; i < count; ++i)
            if (!os::read_memory(std::span(readings).subspan(i, 1))) read &= ~(std::uint64_t{1} << i);
    for (std::size_t i = 0; i < places.size(); ++i)
        if ((loaded >> i & 1) != 0 && (read >> codes[i].reading & 1) != 0 &&
            places[i]->is_code(std::span(buffer).subspan(codes[i].at, places[i]->code_size())))
            there |= std::uint64_t{1} << i;
    return there;
}

AddressRange Place::footprint() const noexcept {
    constexpr std::size_t jump_bytes = 5;
    const std::size_t bytes = site_class == SiteClass::punned ? std::max(jump_bytes, displaced.size()) : displaced.size();
    return {hit.at, hit.at + static_cast<std::ptrdiff_t>(std::max<std::size_t>(bytes, replacement.size))};
}

bool Places::is_claimed(const Place& place) const noexcept {
    bool claimed = false;
    for_each_claimed(place.footprint(), [&](const Place& other) { claimed = claimed || &other != &place; });
    return claimed;
}

// The one that is taken; otherwise one that was, and whose stub serves again.
Place* Places::find_usable(Address at, AllowBreakpoint breakpoint, const detail::WrapEntry* wrap) {
    auto [begin, end] = places_.equal_range(at);
    if (std::any_of(begin, end, [this](const auto& place) { return !is_still_there(place.second); })) {
        // Loaded again, perhaps.
        const Module* const module = known_module(at);
        forget_unloaded(module != nullptr ? module->range : AddressRange{at, at + 1});
        std::tie(begin, end) = places_.equal_range(at);
    }
    for (auto next = begin; next != end; ++next)
        if (next->second.is_taken()) return &next->second;
    for (auto next = begin; next != end; ++next) {
        Place& place = next->second;
        const bool is_breakpoint = place.site_class == SiteClass::breakpoint;
        const bool fits = breakpoint == AllowBreakpoint::always ? is_breakpoint : !place.is_forced;
        // A thread may stand in a thunk: where that leads to stays what it is.
        const bool is_same =
            wrap == nullptr ? place.wrapped == nullptr : place.wrapped != nullptr && place.wrapped->entry == *wrap;
        const bool is_allowed = !place.wants_unguarded || !is_guarded(at);
        if (fits && is_same && is_allowed && !is_claimed(place)) return &place;
    }
    return nullptr;
}

Result<Place*> Places::place_at(Address at, const ProbeOptions& options, std::vector<Place*>& made,
                                const detail::WrapEntry* wrap) {
    const auto module = module_around(at);
    if (!module) return std::unexpected(module.error());
    Place* place = find_usable(at, options.breakpoint, wrap);
    if (place != nullptr && place->is_taken()) {
        // A jump that the system refused to take out again leads to the original until it is wanted.
        const Place::Wrapped* const wrapped = place->wrapped.get();
        const bool is_free =
            wrap != nullptr && wrapped != nullptr && wrapped->entry == *wrap && wrapped->context.active.load() == nullptr;
        if ((wrap != nullptr || wrapped != nullptr) && !is_free) return refuse(Errc::patched_place, at);
    }
    if (place == nullptr) {
        auto planned = plan(**module, at, options, wrap);
        if (!planned) return std::unexpected(planned.error());
        place = &places_.insert(std::move(*planned))->second;
        made.push_back(place);
    }
    if (options.breakpoint == AllowBreakpoint::never && place->site_class == SiteClass::breakpoint)
        return std::unexpected(place->why_no_better());
    if (auto possible = check_trap(*place, options); !possible) return std::unexpected(possible.error());
    return place;
}

Result<void> Places::check_trap(const Place& place, const ProbeOptions& options) {
    if (options.breakpoint == AllowBreakpoint::if_needed && place.site_class == SiteClass::breakpoint && !place.is_armed &&
        is_trap_blocked())
        return refuse(Errc::signal_blocked, place.hit.at);
    return {};
}

void Places::forget(Place& place) noexcept {
    if (place.stub) memory_.release(place.stub, place.code.size);
    if (place.entry && place.entry != place.stub) memory_.release(place.entry, arch::jump_anywhere_bytes);
    const auto [begin, end] = places_.equal_range(place.hit.at);
    for (auto next = begin; next != end; ++next) {
        if (&next->second != &place) continue;
        places_.erase(next);
        return;
    }
}

// Places whose object is not loaded any more.
void Places::forget_unloaded(AddressRange module) {
    seen_ = nullptr;
    for (auto next = places_.lower_bound(module.begin); next != places_.end() && next->first < module.end;) {
        const auto now = next++;
        if (is_still_there(now->second)) continue;
        gone_.emplace_back();  // first: a node that finds no room there would be freed
        now->second.is_gone = true;
        gone_.back() = places_.extract(now);  // threads may be in its stub
    }
}

// Stubs of new places, where no thread can be; and last, because it is for ever, what unwinders have to know of them.
Result<void> Places::write(std::span<Place* const> made) {
    std::vector<StubFrame> frames;
    frames.reserve(2 * made.size());
    for (const Place* place : made) {
        frames.push_back({&place->code, &place->displaced, place->stub});
        if (place->entry != place->stub) frames.push_back({nullptr, &place->displaced, place->entry});
    }
    {
        const Registry::Hold hold(Registry::instance());
        TextPoke poke(*backend().writing);
        if (auto done = unwritten_.write(poke, memory_); !done) return done;
        if (auto done = poke.sync(); !done) return done;
    }
    unwritten_.clear();
    if (!frames_.add(frames)) return refuse(Errc::out_of_memory, {});
    return {};
}

Result<void> Places::arm(std::span<Place* const> places) {
    std::vector<Replacement> batch;
    batch.reserve(places.size());
    bool traps = false;
    for (Place* place : places) {
        place->replacement.element = batch.size();
        traps = traps || place->site_class == SiteClass::breakpoint || place->replacement.boundaries != 0 ||
                place->replacement.needs_breakpoints();
        batch.push_back(place->replacement);
    }
    const Registry::Hold hold(Registry::instance());
    if (traps) {
        if (auto handled = Breakpoints::handle(); !handled) return handled;
        may_trap_.store(true, std::memory_order_relaxed);
    }
    for (Place* place : places) {
        if (place->entered_as_of == Breakpoints::changes()) continue;
        place->entered_as_of = Place::not_entered;
        if (auto done = Breakpoints::enter(place->hit.at, place->stub); !done) return done;
        for (std::size_t i = 1; i < place->displaced.count; ++i) {
            const Address copy = place->stub + place->code.copy + place->code.relocated.begins[i];
            if (auto done = Breakpoints::enter(place->hit.at + place->displaced.begins[i], copy); !done) return done;
        }
        place->entered_as_of = Breakpoints::changes();
    }
    if (auto done = GuardedPoke(*backend().writing).commit(batch); !done) return done;
    for (Place* place : places) place->is_armed = true;
    return {};
}

Result<void> Places::check_usable(std::span<Place* const> places) {
    const auto refused = [places](std::size_t element) {
        const Address at = places[element]->hit.at;
        Error error{.code = Errc::not_loaded, .address = at, .element = element};
        dl_find_object around;
        if (!places[element]->is_gone && _dl_find_object(at.as<void*>(), &around) == 0 &&
            os::read_memory(at.as<const void*>(), error.code_bytes.data(), error.code_bytes.size())) {
            error.code = Errc::bytes_changed;
            error.code_size = static_cast<std::uint8_t>(error.code_bytes.size());
        }
        return std::unexpected(error);
    };
    for (std::size_t first = 0; first < places.size(); first += os::Reading::most) {
        const auto now = places.subspan(first, std::min(os::Reading::most, places.size() - first));
        const std::uint64_t there = are_still_there(now);
        for (std::size_t i = 0; i < now.size(); ++i)
            if (now[i]->is_gone || (there >> i & 1) == 0) return refused(first + i);
    }
    return {};
}

// Where the system refuses, the jumps stay, and lead to nobody.
void Places::disarm(std::span<Place* const> places) noexcept {
    const Registry::Hold hold(Registry::instance());
    disarm_under_text_lock(places);
}

void Places::disarm_under_text_lock(std::span<Place* const> places) noexcept {
    GuardedPoke poke(*backend().writing);
    SmallScratch<Replacement, os::Reading::most> batch;
    const auto take_out = [&](std::span<const Replacement> part) {
        if (part.empty() || !poke.commit(part)) return false;
        for (const Replacement& each : part) places[each.element]->is_armed = false;
        return true;
    };
    // If one is refused, because somebody else has just written there, the others are taken out one by one.
    const auto take_out_batch = [&] {
        const std::span<const Replacement> all = batch;
        if (!take_out(all))
            for (const Replacement& each : all) take_out({&each, 1});
        batch.clear();
    };
    for (std::size_t first = 0; first < places.size(); first += os::Reading::most) {
        const auto now = places.subspan(first, std::min(os::Reading::most, places.size() - first));
        const std::uint64_t there = are_still_there(now);
        for (std::size_t i = 0; i < now.size(); ++i) {
            if (!now[i]->is_armed || now[i]->is_gone || (there >> i & 1) == 0) continue;
            Replacement back = now[i]->replacement;
            std::swap(back.before, back.after);
            back.element = first + i;
            if (batch.push_back(back)) continue;
            take_out_batch();
            if (!batch.push_back(back)) take_out({&back, 1});
        }
    }
    take_out_batch();
}

}  // namespace dynfunc
