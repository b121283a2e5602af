// SPDX-License-Identifier: MIT
// Attaching and detaching.
//
//     1. names        resolved before the lock is taken: the dynamic linker has a lock of its own
//     2. places       planned, stubs written where no thread can be, unwind information
//     3. jumps        one batch; whoever comes there finds nobody who listens
//     4. lists        shown by one store each: from here on it cannot fail
//     5. retired      old lists, and who is in none any more, until a grace period is over
#include "probes.hpp"

#include <unistd.h>

#include <algorithm>
#include <new>
#include <ranges>

#include "backend.hpp"
#include "breakpoints.hpp"
#include "denied.hpp"
#include "first_use.hpp"
#include "os.hpp"
#include "reclaim.hpp"
#include "return_slots.hpp"
#include "scratch.hpp"
#include "trap_guard.hpp"

namespace dynfunc {

using detail::Consumer;

namespace {

bool is_enabled(const Consumer* consumer) noexcept { return !__atomic_load_n(&consumer->is_disabled, __ATOMIC_RELAXED); }
bool has_enabled(const ConsumerList* list) noexcept {
    return list != nullptr &&
           std::any_of(list->begin(), list->last + 1, [](const auto& entry) { return is_enabled(entry.consumer); });
}
// Returns whether it did until now.
bool set_disabled(Consumer& consumer) noexcept { return !__atomic_exchange_n(&consumer.is_disabled, true, __ATOMIC_RELAXED); }

std::atomic<bool> cache_is_chosen{false};  // by the program, which goes before its environment

void reclaim_list(Retired& item) noexcept { ::operator delete(static_cast<ConsumerList*>(&item)); }

}  // namespace

Probes& Probes::instance() noexcept {
    static constinit MadeOnFirstUse<Probes> probes;
    return probes.get([] { return Probes(); });
}

Result<void> Probes::are_possible() noexcept {
    if (arch::has_stubs() && backend().writing != nullptr) return {};
    const auto refusals = backend().capabilities.refusals;
    return std::unexpected(Error{.code = Errc::text_not_writable, .os_error = refusals.empty() ? 0 : refusals.back().os_error});
}

Result<void> Probes::set_cache(bool on) noexcept {
    const auto cpus = static_cast<std::size_t>(std::max(1L, sysconf(_SC_NPROCESSORS_CONF)));
    cache_is_chosen.store(true, std::memory_order_relaxed);
    const Registry::Hold hold(Registry::instance());
    return Breakpoints::set_cache(on, cpus);
}

Result<void> Probes::start() noexcept {
    if (started_) return {};
    if (auto possible = are_possible(); !possible) return possible;
    dynfunc_keep_vectors = arch::with_vectors();
    Registry::instance().prepare();
    started_ = true;
    // Without memory for it, as if nobody had asked.
    if (backend().probe_cache && !cache_is_chosen.load(std::memory_order_relaxed)) static_cast<void>(set_cache(true));
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

// Of every place, in the only thread of a child process.
void Probes::drop_all() noexcept {
    places_.for_each([this](Place& place) {
        for (const auto& entry : place.consumers()) set_disabled(*entry.consumer);
        Place* const one = &place;
        if (place.is_armed) places_.disarm_under_text_lock({&one, 1});
    });
}

void Probes::keep_in_children(InChildren what) {
    const Hold hold(*this);
    in_children_ = what;
}

template <class Consumers>
ConsumerList* Probes::make_list(Consumers&& consumers) noexcept {
    const auto count = static_cast<std::size_t>(std::ranges::distance(consumers));
    void* const memory = ::operator new(sizeof(ConsumerList) + count * sizeof(ConsumerList::Entry), std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* const list = new (memory) ConsumerList;
    list->reclaim = &reclaim_list;
    auto* entry = reinterpret_cast<ConsumerList::Entry*>(list + 1);
    for (Consumer* consumer : consumers) {
        // Also one that is disabled: it is passed over.
        new (entry++) ConsumerList::Entry{
            .on_hit = consumer->options.on_hit,
            .data = consumer->options.data,
            .filter = consumer->options.filter,
            .is_disabled = &consumer->is_disabled,
            .chunk_at = static_cast<std::uint32_t>(consumer->counter / HitCounts::chunk_size * sizeof(std::uint64_t*)),
            .slot_at = static_cast<std::uint32_t>(consumer->counter % HitCounts::chunk_size * sizeof(std::uint64_t)),
            .consumer = consumer};
        list->last = entry - 1;
        list->needs_vectors = list->needs_vectors || consumer->options.needs == Needs::vectors;
    }
    const ConsumerList::Entry& first = *list->begin();
    list->is_one_return = list->last == &first && !list->needs_vectors && first.filter == nullptr &&
                          Address::of(first.on_hit) == arch::return_entry();
    return list;
}

void Probes::publish(Place& place, ConsumerList* list) noexcept {
    ConsumerList* const old = __atomic_exchange_n(&place.hit.consumers, list, __ATOMIC_ACQ_REL);
    if (old == nullptr) return;
    // Of the new list they are no part.
    for (const ConsumerList::Entry* entry = old->begin(); entry <= old->last; ++entry)
        if (entry->consumer->is_detached) retire_own(*entry->consumer);
    retire_own(*old);
}

// Without memory the old list stays, and it reads who was detached, until there is another.
void Probes::publish_without_detached(Place& place) noexcept {
    auto left = place.consumers() | std::views::transform(&ConsumerList::Entry::consumer) |
                std::views::filter([](const Consumer* consumer) { return !consumer->is_detached; });
    ConsumerList* const list = left.empty() ? nullptr : make_list(left);
    if (list != nullptr || left.empty()) publish(place, list);
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

Result<std::vector<Probe>> Probes::attach(std::span<const ProbeRequest> requests, Tolerance* tolerance, Of of) {
    forget_left_hit();
    auto attached = attach_all(requests, tolerance, of);
    if (attached && places_.may_trap()) start_trap_guard();
    return attached;
}

Result<std::vector<Probe>> Probes::attach_all(std::span<const ProbeRequest> requests, Tolerance* tolerance, Of of) {
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
    prepare_trap_guard();
    std::vector<Probe> attached;
    attached.reserve(requests.size());
    std::vector<Place*> made, to_arm, touched;
    std::vector<std::size_t> touched_by, armed_by;  // which request asked for it
    std::vector<std::unique_ptr<Consumer>> consumers;

    const Hold hold(*this);
    if (auto started = start(); !started) return std::unexpected(started.error());
    if (is_copied_half_way_) return refuse(Errc::copied_half_way, {});
    places_.begin(tolerance != nullptr ? tolerance->loading : Address{});

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
            for (Place* place : made) probes.places_.forget(*place);
            probes.places_.forget_unwritten();
            for (std::size_t i = 0; i < counters; ++i) probes.free_counters_.push_back(consumers[i]->counter);
        }
    } undo{*this, made, touched, consumers};

    made.reserve(requests.size());  // what is in the table, and in no list, would be taken for written
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto called = of == Of::calls ? places_.check_is_called(addresses[i]) : Result<void>{};
        const auto place = called ? places_.place_at(addresses[i], requests[i].options, made) : std::unexpected(called.error());
        if (!place && tolerance != nullptr) {
            tolerance->refused.push_back(at_element(place.error(), i).error());
            continue;
        }
        if (!place) return at_element(place.error(), i);
        auto consumer = std::make_unique<Consumer>();
        consumer->reclaim = &reclaim_consumer;
        consumer->place = *place;
        consumer->options = requests[i].options;
        consumer->is_disabled = !requests[i].options.is_enabled;
        consumers.push_back(std::move(consumer));
        if ((*place)->is_chosen) continue;
        touched.push_back(*place);
        touched_by.push_back(i);
        (*place)->is_chosen = true;
        (*place)->chosen_as = static_cast<std::uint32_t>(touched.size() - 1);
    }
    if (auto done = places_.write(made); !done) return std::unexpected(done.error());
    // From here on a place stays, also if its jump is refused: a thread may have run a breakpoint that was taken away again.
    made.clear();

    // Lists of who listens from now on.
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
    for (std::size_t i = 0; i < touched.size(); ++i)
        for (const auto& entry : touched[i]->consumers())
            if (!entry.consumer->is_detached) next[i].push_back(entry.consumer);
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
    for (std::size_t i = 0; i < touched.size(); ++i) {
        if (touched[i]->is_armed || std::ranges::none_of(next[i], is_enabled)) continue;
        to_arm.push_back(touched[i]);
        armed_by.push_back(touched_by[i]);
    }
    if (auto done = places_.arm(to_arm); !done) {
        if (!to_arm.empty()) done.error().element = armed_by[done.error().element];
        return std::unexpected(done.error());
    }

    undo.done = true;
    for (std::size_t i = 0; i < touched.size(); ++i) {
        publish(*touched[i], std::exchange(lists.made[i], nullptr));
    }
    for (auto& consumer : consumers) attached.push_back(Probe(consumer.release()));
    return attached;
}

// Places where nobody listens any more: their jumps are taken out at the end, as many at once as there is memory for.
class Probes::Idle {
public:
    explicit Idle(Probes& probes) noexcept : probes_(probes) {}
    Idle(const Idle&) = delete;
    ~Idle() { disarm(); }
    void look_at(Place& place) noexcept {
        if (!place.is_armed || has_enabled(place.hit.consumers)) return;
        if (found_.push_back(&place)) return;
        disarm();
        Place* const one = &place;
        if (!found_.push_back(one)) probes_.places_.disarm({&one, 1});
    }

private:
    void disarm() noexcept {
        if (!found_.empty()) probes_.places_.disarm(found_);
        found_.clear();
    }

    Probes& probes_;
    SmallScratch<Place*, 64> found_;
};

void Probes::detach(std::span<Consumer* const> consumers) noexcept {
    forget_left_hit();
    const Hold hold(*this);
    if (is_copied_half_way_) {
        for (Consumer* consumer : consumers) set_disabled(*consumer);
        return;
    }
    Idle idle(*this);
    for (Consumer* consumer : consumers) {
        Place& place = *consumer->place;
        set_disabled(*consumer);
        consumer->is_detached = true;
        idle.look_at(place);
        publish_without_detached(place);
    }
}

Result<void> Probes::enable(std::span<const Probe> probes) {
    forget_left_hit();
    std::vector<Place*> chosen;
    std::vector<std::size_t> asked_by;  // which probe
    const auto at_element = [&asked_by](Error error) {
        if (error.element < asked_by.size()) error.element = asked_by[error.element];
        return std::unexpected(error);
    };
    {
        const Hold hold(*this);
        if (is_copied_half_way_) return refuse(Errc::copied_half_way, {});
        struct Undo {
            std::vector<Place*>& chosen;
            ~Undo() {
                for (Place* place : chosen) place->is_chosen = false;
            }
        } const undo{chosen};
        places_.begin({});
        // Also of those that others keep armed: nobody is enabled where nothing is any more.
        std::vector<Place*> places;
        for (std::size_t i = 0; i < probes.size(); ++i) {
            const Consumer* const consumer = probes[i].consumer_;
            if (consumer == nullptr || is_enabled(consumer) || consumer->place->is_chosen) continue;
            asked_by.push_back(i);
            places.push_back(consumer->place);
            chosen.push_back(consumer->place);
            consumer->place->is_chosen = true;
            if (auto possible = places_.check_trap(*consumer->place, consumer->options); !possible)
                return at_element(
                    {.code = possible.error().code, .address = consumer->place->hit.at, .element = places.size() - 1});
        }
        if (auto usable = places_.check_usable(places); !usable) return at_element(usable.error());
        std::size_t unarmed = 0;
        for (std::size_t i = 0; i < places.size(); ++i) {
            if (places[i]->is_armed) continue;
            places[unarmed] = places[i];
            asked_by[unarmed++] = asked_by[i];
        }
        if (auto done = places_.arm(std::span(places).first(unarmed)); !done) return at_element(done.error());
        for (const Probe& probe : probes)
            if (probe.consumer_ != nullptr) __atomic_store_n(&probe.consumer_->is_disabled, false, __ATOMIC_RELEASE);  // (Z)
    }
    if (places_.may_trap()) start_trap_guard();
    return {};
}

bool Probes::disable(std::span<const Probe> probes) noexcept {
    forget_left_hit();
    const Hold hold(*this);
    bool any = false;
    for (const Probe& probe : probes) {
        if (probe.consumer_ == nullptr) continue;
        set_disabled(*probe.consumer_);
        any = true;
    }
    if (!any || is_copied_half_way_) return any;
    Idle idle(*this);
    for (const Probe& probe : probes)
        if (probe.consumer_ != nullptr) idle.look_at(*probe.consumer_->place);
    return any;
}

bool Probes::detach(std::span<Probe> probes) noexcept {
    constexpr std::size_t at_once = 256;
    std::array<Consumer*, at_once> consumers;
    std::size_t count = 0;
    bool any = false;
    for (Probe& probe : probes) {
        if (probe.consumer_ == nullptr) continue;
        any = true;
        consumers[count++] = std::exchange(probe.consumer_, nullptr);
        if (count == at_once) detach(std::span<Consumer* const>(consumers).first(std::exchange(count, 0)));
    }
    if (count != 0) detach(std::span<Consumer* const>(consumers).first(count));
    return any;
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

void Probes::disable_after_hit(Consumer& consumer) noexcept {
    if (!set_disabled(consumer)) return;
    Place& place = *consumer.place;
    const ConsumerList* const list = __atomic_load_n(&place.hit.consumers, __ATOMIC_ACQUIRE);
    if (list == nullptr || has_enabled(list)) return;
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

// Places all of whose consumers have asked to be disabled.
void Probes::disarm_abandoned() noexcept {
    Place* next = abandoned_.exchange(nullptr, std::memory_order_seq_cst);
    while (next != nullptr && !is_copied_half_way_) {
        Place* place = next;
        next = place->next_abandoned;
        place->is_abandoned.store(false, std::memory_order_seq_cst);
        if (has_enabled(place->hit.consumers)) continue;
        if (place->is_armed) places_.disarm({&place, 1});
    }
}

ProbeInfo Probes::info(const Consumer& consumer) {
    const Hold hold(*this);
    const Place& place = *consumer.place;
    const Replacement& replacement = place.replacement;
    ProbeInfo info{.at = place.hit.at,
                   .site_class = place.site_class,
                   .reason = place.site_class == SiteClass::whole ? "" : place.why_no_better().message(),
                   .stub = place.stub,
                   .before = {replacement.before.begin(), replacement.before.begin() + replacement.size},
                   .is_armed = place.is_armed,
                   .is_gone = place.is_gone || !places_.is_still_there(place),
                   .consumers = static_cast<std::size_t>(
                       std::ranges::count_if(place.consumers(), is_enabled, &ConsumerList::Entry::consumer))};
    return info;
}

}  // namespace dynfunc
