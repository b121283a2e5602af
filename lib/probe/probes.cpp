// SPDX-License-Identifier: MIT
// Attaching and detaching.
//
//     1. names        resolved before the lock is taken: the dynamic linker has a lock of its own
//     2. places       planned, stubs written where no thread can be, unwind information
//     3. jumps        one batch; whoever comes there finds nobody who listens
//     4. lists        shown by one store each: from here on it cannot fail
//     5. retired      old lists, and who is in none any more, until a grace period is over
#include "probes.hpp"

#include <dynfunc/typed_probe.hpp>

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>

#include "backend.hpp"
#include "breakpoints.hpp"
#include "denied.hpp"
#include "find_call_sites.hpp"
#include "os.hpp"
#include "reclaim.hpp"
#include "stub_frames.hpp"
#include "text_poke.hpp"
#include "trap_guard.hpp"

namespace dynfunc {

using detail::Consumer;

namespace {

std::unexpected<Error> refuse(Errc code, Address at) noexcept { return std::unexpected(Error{.code = code, .address = at}); }

bool is_listening(const Consumer* consumer) noexcept { return !__atomic_load_n(&consumer->is_removed, __ATOMIC_RELAXED); }

void reclaim_list(Retired& item) noexcept { ::operator delete(static_cast<ConsumerList*>(&item)); }

// Whether one begins there if they are read one after the other, from the function's begin on.
bool begins_instruction(Address at, Address function, std::span<const std::byte> code) noexcept {
    std::size_t offset = 0;
    while (function + static_cast<std::ptrdiff_t>(offset) < at) {
        const auto instruction = arch::read_displaced(code.subspan(offset), function + static_cast<std::ptrdiff_t>(offset), 1);
        if (!instruction) return false;
        offset += instruction->size();
    }
    return function + static_cast<std::ptrdiff_t>(offset) == at;
}

}  // namespace

// The probes lock; a fresh child process is made our own first, if that is where we are. Whoever asked to be removed while it
// was held is seen to at its end.
class Probes::Hold {
public:
    explicit Hold(Probes& probes) noexcept : probes_(probes) {
        { const Registry::Hold adopted(Registry::instance()); }
        probes_.lock_.lock();
        probes_.seen_ = nullptr;
    }
    ~Hold() {
        probes_.disarm_abandoned();
        probes_.lock_.unlock();
        while (probes_.abandoned_.load(std::memory_order_seq_cst) != nullptr && probes_.lock_.try_lock()) {
            probes_.disarm_abandoned();
            probes_.lock_.unlock();
        }
    }
    Hold(const Hold&) = delete;

private:
    Probes& probes_;
};

Probes& Probes::instance() noexcept {
    alignas(Probes) static std::byte storage[sizeof(Probes)];
    static Probes* const probes = new (storage) Probes;
    return *probes;
}

Result<void> Probes::start() noexcept {
    if (started_) return {};
    if (!arch::has_stubs() || backend().writing == nullptr) {
        const auto refusals = backend().capabilities.refusals;
        return std::unexpected(
            Error{.code = Errc::text_not_writable, .os_error = refusals.empty() ? 0 : refusals.back().os_error});
    }
    dynfunc_keep_vectors = arch::with_vectors();
    Registry::instance().take_part_in_forks(fork_part_);
    started_ = true;
    return {};
}

void Probes::adopt(Copied copied) noexcept {
    free_counts_of_other_threads();
    Breakpoints::reset_in_child();
    Probes& probes = instance();
    // Lists of consumers, and the table of breakpoints, are whole at any moment: hits go on.
    if (copied == Copied::inside_a_change)
        probes.is_copied_half_way_ = true;
    else if (probes.in_children_ == InChildren::drop)
        probes.drop_all();
}

// Asked once in an attach: threads that begin meanwhile inherit.
bool Probes::is_trap_blocked() {
    if (!trap_blocked_) trap_blocked_ = os::thread_that_blocks(SIGTRAP) != 0;
    return *trap_blocked_;
}

// Of every place, in the only thread of a child process.
void Probes::drop_all() noexcept {
    for (const auto& [at, place] : places_) {
        for (const Consumer* consumer : place->consumers)
            __atomic_store_n(&const_cast<Consumer*>(consumer)->is_removed, true, __ATOMIC_RELAXED);
        publish(*place, nullptr);
        Place* const one = place.get();
        if (place->is_armed) disarm_under_text_lock({&one, 1});
    }
}

void Probes::keep_in_children(InChildren what) {
    const Hold hold(*this);
    in_children_ = what;
}

// Asks the dynamic linker's index, which has no lock: a fork in another thread's dlopen() leaves that held for ever.
Result<const ModuleCode*> Probes::module_around(Address at) {
    // Whoever attaches to many keeps all of them loaded meanwhile.
    if (seen_ != nullptr && seen_->range.contains(at)) return &seen_->code;
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
        if (known->range.end == range.end && known->identity == identity && known->was_loading == is_loading) {
            seen_ = &*known;
            return &known->code;
        }
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
    modules_.push_back({range, identity, std::move(*code), std::move(patched), is_loading});
    seen_ = &modules_.back();
    return &seen_->code;
}

bool Place::is_code(std::span<const std::byte> code) const noexcept {
    const std::size_t written = replacement.size;
    const auto& expected = is_armed ? replacement.after : replacement.before;
    return std::equal(code.begin(), code.begin() + written, expected.begin()) &&
           std::equal(code.begin() + written, code.end(), displaced.bytes.begin() + written);
}

// Its object may be unloaded by another thread at this moment: nothing is read without asking.
bool Probes::is_still_there(const Place& place) const noexcept {
    // But what one attaches to one keeps loaded.
    if (seen_ != nullptr && seen_->range.contains(place.hit.at))
        return place.is_code({place.hit.at.as<const std::byte*>(), place.code_size()});
    const Place* const one = &place;
    return are_still_there({&one, 1}) != 0;
}

std::uint64_t Probes::are_still_there(std::span<const Place* const> places) noexcept {
    std::array<std::array<std::byte, 2 * arch::Displaced::most_bytes>, os::Reading::most> codes;
    std::array<os::Reading, os::Reading::most> readings;
    std::size_t count = 0;
    std::uint64_t loaded = 0, there = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
        dl_find_object around;
        const Place& place = *places[i];
        if (_dl_find_object(place.hit.at.as<void*>(), &around) == 0)
            place.is_loading = false;
        else if (!place.is_loading)
            continue;
        loaded |= std::uint64_t{1} << i;
        readings[count++] = {place.hit.at.as<const void*>(), codes[i].data(), place.code_size()};
    }
    const bool all = os::read_memory(std::span(readings).first(count));
    count = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
        if ((loaded >> i & 1) == 0) continue;
        const bool read = all || os::read_memory(std::span(readings).subspan(count, 1));
        ++count;
        if (read && places[i]->is_code(std::span(codes[i]).first(places[i]->code_size()))) there |= std::uint64_t{1} << i;
    }
    return there;
}

AddressRange Place::footprint() const noexcept {
    constexpr std::size_t jump_bytes = 5;
    const std::size_t bytes = site_class == SiteClass::punned ? std::max(jump_bytes, displaced.size()) : displaced.size();
    return {hit.at, hit.at + static_cast<std::ptrdiff_t>(std::max<std::size_t>(bytes, replacement.size))};
}

// Calls visit(place) for those that are armed, or about to be, and have bytes in the range.
template <class Visit>
void Probes::for_each_claimed(AddressRange range, Visit&& visit) const {
    constexpr std::ptrdiff_t most_footprint = arch::Displaced::most_bytes;
    for (auto next = places_.lower_bound(range.begin - most_footprint); next != places_.end() && next->first < range.end;
         ++next) {
        const Place& place = *next->second;
        if ((place.is_armed || place.is_chosen) && range.begin < place.footprint().end) visit(place);
    }
}

bool Probes::is_claimed(const Place& place) const noexcept {
    bool claimed = false;
    for_each_claimed(place.footprint(), [&](const Place& other) { claimed = claimed || &other != &place; });
    return claimed;
}

// The one that is armed; otherwise one that was, and whose stub serves again.
Place* Probes::find_usable(Address at, AllowBreakpoint breakpoint) {
    auto [begin, end] = places_.equal_range(at);
    if (std::any_of(begin, end, [this](const auto& place) { return !is_still_there(*place.second); })) {
        // Loaded again, perhaps.
        const auto module = std::ranges::find_if(modules_, [at](const Module& each) { return each.range.contains(at); });
        forget_unloaded(module != modules_.end() ? module->range : AddressRange{at, at + 1});
        std::tie(begin, end) = places_.equal_range(at);
    }
    for (auto next = begin; next != end; ++next)
        if (next->second->is_armed || next->second->is_chosen) return next->second.get();
    for (auto next = begin; next != end; ++next) {
        Place& place = *next->second;
        const bool is_breakpoint = place.site_class == SiteClass::breakpoint;
        const bool fits = breakpoint == AllowBreakpoint::always ? is_breakpoint : !place.is_forced;
        if (fits && !is_claimed(place)) return &place;
    }
    return nullptr;
}

Result<Place*> Probes::place_at(Address at, const ProbeOptions& options, std::vector<Place*>& made) {
    if (auto module = module_around(at); !module) return std::unexpected(module.error());
    Place* place = find_usable(at, options.breakpoint);
    if (place == nullptr) {
        auto planned = plan(at, options);
        if (!planned) return std::unexpected(planned.error());
        place = places_.emplace(at, std::move(*planned))->second.get();
        made.push_back(place);
    }
    if (options.breakpoint == AllowBreakpoint::never && place->site_class == SiteClass::breakpoint)
        return std::unexpected(place->why);
    if (options.breakpoint == AllowBreakpoint::if_needed && place->site_class == SiteClass::breakpoint && !place->is_armed &&
        is_trap_blocked())
        return refuse(Errc::signal_blocked, at);
    return place;
}

Result<std::unique_ptr<Place>> Probes::plan(Address at, const ProbeOptions& options) {
    const auto module = module_around(at);
    if (!module) return std::unexpected(module.error());
    const ModuleCode& code = **module;
    if (!code.is_text(at)) return refuse(Errc::not_executable, at);
    if (is_of_the_library(at)) return refuse(Errc::inside_library, at);
    const AddressRange function = code.function_around(at);
    if (function.size() == 0) return refuse(Errc::no_unwind_table, at);

    // As it was linked, but for what others have changed.
    const auto* const text = function.begin.as<const std::byte*>();
    std::vector<std::byte> original(text, text + function.size());
    for_each_claimed(function, [&](const Place& place) {
        if (!place.is_armed) return;
        for (std::size_t k = 0; k < place.replacement.size; ++k) {
            const std::ptrdiff_t offset = place.hit.at + static_cast<std::ptrdiff_t>(k) - function.begin;
            if (offset >= 0 && std::cmp_less(offset, original.size()))
                original[static_cast<std::size_t>(offset)] = place.replacement.before[k];
        }
    });
    arch::JumpSite site = code.site(at, original);
    if (is_denied(at, function)) return refuse(Errc::denied, at);
    const arch::Breakpoint& trap = arch::breakpoint();
    if (site.code.size() >= trap.size && std::equal(trap.bytes.begin(), trap.bytes.begin() + trap.size, site.code.begin()))
        return refuse(Errc::foreign_breakpoint, at);
    if (!begins_instruction(at, function.begin, original)) return refuse(Errc::middle_of_instruction, at);

    // Threads come to the probed instructions behind this one, as they do to where branches lead.
    constexpr std::ptrdiff_t bits = 32;
    for_each_claimed({at + 1, at + bits}, [&](const Place& place) {
        if (place.hit.at > at) site.branches_to |= std::uint32_t{1} << (place.hit.at - at);
    });
    auto place = std::make_unique<Place>();
    place->hit.at = at;
    place->is_function_begin = at == function.begin;
    place->is_forced = options.breakpoint == AllowBreakpoint::always;
    place->is_loading = seen_->was_loading;
    Result<void> done = refuse(Errc::too_short, at);
    for (const SiteForm& form : site_forms) {
        if (place->is_forced) break;
        done = try_form(*place, form, site);
        if (done) return place;
        place->why = done.error();
    }
    if (options.breakpoint == AllowBreakpoint::never) return std::unexpected(done.error());
    if (auto trapped = try_breakpoint(*place, site); !trapped) return std::unexpected(trapped.error());
    return place;
}

// By the library itself, for its functions, keys and tracepoints.
bool Probes::is_patched(AddressRange range) const noexcept {
    const auto module =
        std::ranges::find_if(modules_, [range](const Module& each) { return each.range.contains(range.begin); });
    if (module == modules_.end()) return false;
    const auto behind = std::ranges::lower_bound(module->patched, range.end, {}, &AddressRange::begin);
    return behind != module->patched.begin() && range.begin < behind[-1].end;
}

// The stub, where it reaches what the instructions refer to.
Result<void> Probes::make_stub(Place& place) {
    constexpr std::int32_t near = 1 << 30;
    const Address at = place.hit.at;
    if (is_claimed(place) || is_patched(place.footprint())) return refuse(Errc::patched_place, at);
    {
        const Registry::Hold hold(Registry::instance());
        if (Registry::instance().has_call_site_in(place.footprint())) return refuse(Errc::patched_place, at);
    }
    const auto stub = memory_.take({.from = at, .least = -near, .most = near}, arch::most_stub_bytes);
    if (!stub) return std::unexpected(stub.error());
    std::array<std::byte, arch::most_stub_bytes> bytes;
    const arch::StubRequest request{
        .displaced = &place.displaced, .is_function_begin = place.is_function_begin, .site = Address::of(&place.hit)};
    const auto code = arch::encode_stub(request, *stub, bytes);
    if (!code) {
        memory_.release(*stub, arch::most_stub_bytes);
        return std::unexpected(code.error());
    }
    memory_.release(*stub + code->size, arch::most_stub_bytes - code->size);
    place.code = *code;
    place.stub = place.entry = *stub;
    unwritten_.add(*stub, std::span(bytes).first(code->size));
    return {};
}

void Probes::forget_stub(Place& place) noexcept {
    unwritten_.drop_last();
    memory_.release(place.stub, place.code.size);
    place.stub = place.entry = {};
}

Result<void> Probes::try_form(Place& place, const SiteForm& form, const arch::JumpSite& site) {
    const auto plan = arch::plan_jump(form.form, site);
    if (!plan) return std::unexpected(plan.error());
    place.displaced = plan->displaced;
    place.site_class = form.site_class;
    if (auto made = make_stub(place); !made) return made;
    const Address at = place.hit.at;
    if (plan->given_mask != 0) {
        const auto entry =
            memory_.take({.from = at + plan->distance_from, .given_mask = plan->given_mask, .given = plan->given},
                         arch::jump_anywhere_bytes);
        if (!entry) {
            forget_stub(place);
            return std::unexpected(entry.error());
        }
        place.entry = *entry;
        const auto jump = arch::encode_jump_anywhere(*entry, place.stub);
        unwritten_.add(*entry, jump);
    }
    const auto jump = arch::encode_site(arch::SiteKind::branch, at, place.entry);
    if (!jump) return std::unexpected(jump.error());

    Replacement& replacement = place.replacement;
    replacement.at = at;
    replacement.size = plan->written;
    // What fills up behind the function is nobody's.
    std::copy_n(at.as<const std::byte*>(), plan->written, replacement.before.begin());
    std::copy_n(site.code.begin(), std::min<std::size_t>(plan->written, site.code.size()), replacement.before.begin());
    std::copy_n(jump->bytes.begin(), plan->written, replacement.after.begin());
    for (std::size_t i = 1; i < place.displaced.count; ++i)
        if (const std::size_t k = place.displaced.begins[i]; k < plan->written)
            replacement.boundaries |= static_cast<std::uint8_t>(1 << k);
    return {};
}

Result<void> Probes::try_breakpoint(Place& place, const arch::JumpSite& site) {
    const auto displaced = arch::read_displaced(site.code, site.at, 1);
    if (!displaced) return std::unexpected(displaced.error());
    place.displaced = *displaced;
    place.site_class = SiteClass::breakpoint;
    if (auto made = make_stub(place); !made) return made;
    const arch::Breakpoint& trap = arch::breakpoint();
    place.replacement.at = site.at;
    place.replacement.size = static_cast<std::uint8_t>(trap.size);
    std::ranges::copy(site.code.first(trap.size), place.replacement.before.begin());
    std::copy_n(trap.bytes.begin(), trap.size, place.replacement.after.begin());
    return {};
}

// Stubs of new places, where no thread can be; and last, because it is for ever, what unwinders have to know of them.
Result<void> Probes::write(std::span<Place* const> made) {
    std::vector<StubFrame> frames;
    frames.reserve(made.size());
    for (const Place* place : made) frames.push_back({&place->code, &place->displaced, place->stub});
    {
        const Registry::Hold hold(Registry::instance());
        TextPoke poke(*backend().writing);
        if (auto done = unwritten_.write(poke, memory_); !done) return done;
        if (auto done = poke.sync(); !done) return done;
    }
    unwritten_.clear();
    if (!register_frames(frames)) return refuse(Errc::out_of_memory, {});
    return {};
}

Result<void> Probes::arm(std::span<Place* const> places) {
    std::vector<Replacement> batch;
    batch.reserve(places.size());
    bool traps = false;
    for (Place* place : places) {
        traps = traps || place->site_class == SiteClass::breakpoint || place->replacement.boundaries != 0 ||
                place->replacement.needs_breakpoints();
        batch.push_back(place->replacement);
    }
    const Registry::Hold hold(Registry::instance());
    if (traps) {
        if (auto handled = Breakpoints::handle(); !handled) return handled;
        may_trap_.store(true, std::memory_order_relaxed);
    }
    for (const Place* place : places) {
        if (auto done = Breakpoints::enter(place->hit.at, place->stub); !done) return done;
        for (std::size_t i = 1; i < place->displaced.count; ++i) {
            const Address copy = place->stub + place->code.copy + place->code.relocated.begins[i];
            if (auto done = Breakpoints::enter(place->hit.at + place->displaced.begins[i], copy); !done) return done;
        }
    }
    if (auto done = GuardedPoke(*backend().writing).commit(batch); !done) return done;
    for (Place* place : places) place->is_armed = true;
    return {};
}

// Where the system refuses, the jumps stay, and lead to nobody.
void Probes::disarm(std::span<Place* const> places) noexcept {
    const Registry::Hold hold(Registry::instance());
    disarm_under_text_lock(places);
}

void Probes::disarm_under_text_lock(std::span<Place* const> places) noexcept {
    constexpr std::size_t at_once = os::Reading::most;
    std::array<Replacement, at_once> batch;
    GuardedPoke poke(*backend().writing);
    while (!places.empty()) {
        const auto now = places.first(std::min(places.size(), at_once));
        const std::uint64_t there = are_still_there(now);
        std::size_t count = 0;
        for (std::size_t i = 0; i < now.size(); ++i) {
            const Place* const place = now[i];
            if (!place->is_armed || place->is_gone || (there >> i & 1) == 0) continue;
            batch[count] = place->replacement;
            std::swap(batch[count].before, batch[count].after);
            ++count;
        }
        if (count != 0 && poke.commit(std::span(batch).first(count)))
            for (Place* place : now) place->is_armed = false;
        places = places.subspan(now.size());
    }
}

ConsumerList* Probes::make_list(std::span<Consumer* const> consumers) noexcept {
    void* const memory = ::operator new(sizeof(ConsumerList) + consumers.size() * sizeof(ConsumerList::Entry), std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* const list = new (memory) ConsumerList;
    list->reclaim = &reclaim_list;
    auto* entry = reinterpret_cast<ConsumerList::Entry*>(list + 1);
    for (Consumer* consumer : consumers) {
        // Also one that asked to be removed meanwhile: it is passed over.
        new (entry++) ConsumerList::Entry{
            .on_hit = consumer->options.on_hit,
            .data = consumer->options.data,
            .filter = consumer->options.filter,
            .is_removed = &consumer->is_removed,
            .chunk_at = static_cast<std::uint32_t>(consumer->counter / HitCounts::chunk_size * sizeof(std::uint64_t*)),
            .slot_at = static_cast<std::uint32_t>(consumer->counter % HitCounts::chunk_size * sizeof(std::uint64_t)),
            .consumer = consumer};
        list->last = entry - 1;
        list->needs_vectors = list->needs_vectors || consumer->options.needs == Needs::vectors;
    }
    return list;
}

void Probes::publish(Place& place, ConsumerList* list) noexcept {
    ConsumerList* const old = __atomic_exchange_n(&place.hit.consumers, list, __ATOMIC_ACQ_REL);
    if (old != nullptr) retire_own(*old);
}

Result<std::uint32_t> Probes::take_counter() {
    if (!free_counters_.empty()) {
        const std::uint32_t counter = free_counters_.back();
        free_counters_.pop_back();
        return counter;
    }
    if (counters_ == most_counters) return refuse(Errc::out_of_memory, {});
    // To be given back without memory.
    if (free_counters_.capacity() <= counters_) free_counters_.reserve(2 * (counters_ + std::size_t{1}));
    return counters_++;
}

Result<std::vector<Probe>> Probes::attach(std::span<const ProbeRequest> requests, Tolerance* tolerance) {
    if (requests.empty()) return refuse(Errc::empty_batch, {});
    std::vector<Address> addresses;
    addresses.reserve(requests.size());
    const auto at_element = [](Error error, std::size_t i) {
        error.element = i;
        if (error.code_size == 0 && error.address &&
            os::read_memory(error.address.as<const void*>(), error.code_bytes.data(), error.code_bytes.size()))
            error.code_size = static_cast<std::uint8_t>(error.code_bytes.size());
        return std::unexpected(error);
    };
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto at = requests[i].target.resolve();
        if (!at) return at_element(at.error(), i);
        if (requests[i].options.on_hit == nullptr)
            return std::unexpected(Error{.code = Errc::no_callback, .address = *at, .element = i});
        addresses.push_back(*at);
    }
    static_cast<void>(backend());
    prepare_denied();
    prepare_trap_guard();
    std::vector<Probe> attached;
    attached.reserve(requests.size());
    std::vector<Place*> made, to_arm, touched;
    std::vector<std::unique_ptr<Consumer>> consumers;

    const Hold hold(*this);
    if (auto started = start(); !started) return std::unexpected(started.error());
    if (is_copied_half_way_) return refuse(Errc::copied_half_way, {});
    trap_blocked_.reset();

    // What is planned, and not finished, is forgotten; counters are given back.
    struct Undo {
        Probes& probes;
        std::vector<Place*>&made, &touched;
        std::vector<std::unique_ptr<Consumer>>& consumers;
        std::size_t counters = 0;
        bool done = false;
        ~Undo() {
            for (Place* place : touched) place->is_chosen = false;
            if (done) return;
            for (Place* place : made) probes.forget(*place);
            probes.unwritten_.clear();
            for (std::size_t i = 0; i < counters; ++i) probes.free_counters_.push_back(consumers[i]->counter);
        }
    } undo{*this, made, touched, consumers};

    loading_ = tolerance != nullptr ? tolerance->loading : Address{};
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto place = place_at(addresses[i], requests[i].options, made);
        if (!place && tolerance != nullptr) {
            tolerance->refused.push_back(at_element(place.error(), i).error());
            continue;
        }
        if (!place) return at_element(place.error(), i);
        auto consumer = std::make_unique<Consumer>();
        consumer->reclaim = &reclaim_consumer;
        consumer->place = *place;
        consumer->options = requests[i].options;
        consumers.push_back(std::move(consumer));
        if ((*place)->is_chosen) continue;
        touched.push_back(*place);
        (*place)->is_chosen = true;
        (*place)->chosen_as = touched.size() - 1;
        if (!(*place)->is_armed) to_arm.push_back(*place);
    }
    if (auto done = write(made); !done) return std::unexpected(done.error());
    // From here on a place stays, also if its jump is refused: a thread may have run a breakpoint that was taken away again.
    made.clear();

    // Lists of who listens from now on; what comes after this needs no memory.
    struct Lists {
        std::vector<ConsumerList*> made;
        ~Lists() {
            for (ConsumerList* list : made) ::operator delete(list);
        }
    } lists;
    lists.made.reserve(touched.size());
    for (auto& consumer : consumers) {
        const auto counter = take_counter();
        if (!counter) return std::unexpected(counter.error());
        consumer->counter = *counter;
        ++undo.counters;
        consumer->hits_before = count_hits(*counter);
        consumer->missed_before = __atomic_load_n(&consumer->place->hit.missed, __ATOMIC_RELAXED);
    }
    std::vector<std::vector<Consumer*>> next(touched.size());
    for (std::size_t i = 0; i < touched.size(); ++i) next[i] = touched[i]->consumers;
    for (auto& consumer : consumers) {
        auto& of_place = next[consumer->place->chosen_as];
        const auto behind = std::ranges::upper_bound(of_place, consumer->options.priority, std::greater{},
                                                     [](const Consumer* each) { return each->options.priority; });
        of_place.insert(behind, consumer.get());
    }
    for (const auto& of_place : next) {
        ConsumerList* const list = make_list(of_place);
        if (list == nullptr) return refuse(Errc::out_of_memory, {});
        lists.made.push_back(list);
    }
    if (auto done = arm(to_arm); !done) return std::unexpected(done.error());

    undo.done = true;
    for (std::size_t i = 0; i < touched.size(); ++i) {
        touched[i]->consumers = std::move(next[i]);
        publish(*touched[i], std::exchange(lists.made[i], nullptr));
    }
    for (auto& consumer : consumers) attached.push_back(Probe(consumer.release()));
    return attached;
}

void Probes::forget(Place& place) noexcept {
    if (place.stub) memory_.release(place.stub, place.code.size);
    if (place.entry && place.entry != place.stub) memory_.release(place.entry, arch::jump_anywhere_bytes);
    const auto [begin, end] = places_.equal_range(place.hit.at);
    for (auto next = begin; next != end; ++next) {
        if (next->second.get() != &place) continue;
        places_.erase(next);
        return;
    }
}

// Places whose object is not loaded any more.
void Probes::forget_unloaded(AddressRange module) {
    seen_ = nullptr;
    for (auto next = places_.lower_bound(module.begin); next != places_.end() && next->first < module.end;) {
        if (is_still_there(*next->second)) {
            ++next;
            continue;
        }
        next->second->is_gone = true;
        gone_.push_back(std::move(next->second));  // threads may be in its stub
        next = places_.erase(next);
    }
}

void Probes::detach(std::span<Consumer* const> consumers) noexcept {
    constexpr std::size_t at_once = 64;
    const Hold hold(*this);
    if (is_copied_half_way_) {
        for (Consumer* consumer : consumers) __atomic_store_n(&consumer->is_removed, true, __ATOMIC_RELAXED);
        return;
    }
    std::array<Place*, at_once> empty;
    std::size_t count = 0;
    const auto disarm_empty = [&] { disarm(std::span(empty).first(std::exchange(count, 0))); };
    for (Consumer* consumer : consumers) {
        Place& place = *consumer->place;
        __atomic_store_n(&consumer->is_removed, true, __ATOMIC_RELAXED);
        std::erase(place.consumers, consumer);
        const bool has_more = std::ranges::any_of(place.consumers, is_listening);
        ConsumerList* const list = has_more ? make_list(place.consumers) : nullptr;
        // Without memory the old list stays, and it reads the consumer.
        if (has_more && list == nullptr) continue;
        publish(place, list);
        retire_own(*consumer);
        if (has_more || !place.is_armed) continue;
        empty[count++] = &place;
        if (count == at_once) disarm_empty();
    }
    disarm_empty();
}

void Probes::reclaim_consumer(Retired& item) noexcept {
    auto* const consumer = static_cast<Consumer*>(&item);
    {
        Probes& probes = instance();
        const Hold hold(probes);
        probes.free_counters_.push_back(consumer->counter);
    }
    delete consumer;
}

void Probes::remove(Consumer& consumer) noexcept {
    if (__atomic_exchange_n(&consumer.is_removed, true, __ATOMIC_RELAXED)) return;
    Place& place = *consumer.place;
    const ConsumerList* const list = __atomic_load_n(&place.hit.consumers, __ATOMIC_ACQUIRE);
    if (list == nullptr ||
        std::any_of(list->begin(), list->last + 1, [](const auto& entry) { return is_listening(entry.consumer); }))
        return;
    if (place.is_abandoned.exchange(true, std::memory_order_seq_cst)) return;
    place.next_abandoned = abandoned_.load(std::memory_order_relaxed);
    while (!abandoned_.compare_exchange_weak(place.next_abandoned, &place, std::memory_order_seq_cst)) {
    }
    // If somebody holds the lock, he sees to it when he lets go.
    while (abandoned_.load(std::memory_order_seq_cst) != nullptr && lock_.try_lock()) {
        disarm_abandoned();
        lock_.unlock();
    }
}

// Places all of whose consumers have asked to be removed.
void Probes::disarm_abandoned() noexcept {
    Place* next = abandoned_.exchange(nullptr, std::memory_order_seq_cst);
    while (next != nullptr && !is_copied_half_way_) {
        Place* place = next;
        next = place->next_abandoned;
        place->is_abandoned.store(false, std::memory_order_seq_cst);
        if (std::ranges::any_of(place->consumers, is_listening)) continue;
        publish(*place, nullptr);
        if (place->is_armed) disarm({&place, 1});
    }
}

ProbeInfo Probes::info(const Consumer& consumer) {
    const Hold hold(*this);
    const Place& place = *consumer.place;
    const Replacement& replacement = place.replacement;
    ProbeInfo info{.at = place.hit.at,
                   .site_class = place.site_class,
                   .reason = place.site_class == SiteClass::whole ? "" : place.why.message(),
                   .stub = place.stub,
                   .before = {replacement.before.begin(), replacement.before.begin() + replacement.size},
                   .is_armed = place.is_armed,
                   .is_gone = place.is_gone || !is_still_there(place),
                   .consumers = static_cast<std::size_t>(std::ranges::count_if(place.consumers, is_listening))};
    return info;
}

void dynfunc_remove_after_hit(void* entry, Registers*) noexcept {
    Probes::instance().remove(*static_cast<const ConsumerList::Entry*>(entry)->consumer);
}

Result<Probe> Probe::attach(const ProbeTarget& target, const ProbeOptions& options) {
    const ProbeRequest request{target, options};
    auto attached = attach({&request, 1});
    if (!attached) return std::unexpected(attached.error());
    return std::move(attached->front());
}

Result<std::vector<Probe>> Probe::attach(std::span<const ProbeRequest> requests) {
    auto attached = Probes::instance().attach(requests);
    if (attached && Probes::instance().may_trap()) start_trap_guard();
    return attached;
}

void set_probes_in_children(InChildren what) { Probes::instance().keep_in_children(what); }

void Probe::detach_nosync() noexcept {
    if (consumer_ == nullptr) return;
    Consumer* const consumer = std::exchange(consumer_, nullptr);
    Probes::instance().detach({&consumer, 1});
}

void Probe::detach() noexcept {
    if (consumer_ == nullptr) return;
    detach_nosync();
    if (!is_in_section()) synchronize();
}

void detail::detach_with(Probe& probe, Retired& owned) noexcept {
    probe.detach_nosync();
    retire(owned);
    if (!is_in_section()) synchronize();
}

void Probe::detach(std::span<Probe> probes) noexcept {
    constexpr std::size_t at_once = 256;
    std::array<Consumer*, at_once> consumers;
    std::size_t count = 0;
    bool any = false;
    for (Probe& probe : probes) {
        if (probe.consumer_ == nullptr) continue;
        any = true;
        consumers[count++] = std::exchange(probe.consumer_, nullptr);
        if (count == at_once) Probes::instance().detach(std::span(consumers).first(std::exchange(count, 0)));
    }
    if (count != 0) Probes::instance().detach(std::span(consumers).first(count));
    if (any && !is_in_section()) synchronize();
}

std::uint64_t Probe::hits() const noexcept {
    return consumer_ == nullptr ? 0 : count_hits(consumer_->counter) - consumer_->hits_before;
}

std::uint64_t Probe::missed() const noexcept {
    if (consumer_ == nullptr) return 0;
    return __atomic_load_n(&consumer_->place->hit.missed, __ATOMIC_RELAXED) - consumer_->missed_before;
}

ProbeInfo Probe::info() const { return consumer_ == nullptr ? ProbeInfo{} : Probes::instance().info(*consumer_); }

}  // namespace dynfunc
