// SPDX-License-Identifier: MIT
#include "call_sites.hpp"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <new>

#include "backend.hpp"
#include "registry.hpp"
#include "text_poke.hpp"

namespace dynfunc {
namespace {

using detail::Jump;
using detail::Tables;
using detail::TrampolineRecord;

std::uint64_t now() noexcept {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

// Adds the time until its end to a counter.
class Stopwatch {
public:
    explicit Stopwatch(std::uint64_t& sum) noexcept : sum_(sum), began_(now()) {}
    ~Stopwatch() { sum_ += now() - began_; }
    Stopwatch(const Stopwatch&) = delete;

private:
    std::uint64_t& sum_;
    std::uint64_t began_;
};

bool lies_in_one_word(Address field) noexcept {
    const std::size_t word = arch::capabilities().word_bytes;
    const Address last = field + (arch::capabilities().reference_bytes - 1);
    return field.value / word == last.value / word;
}

void forget_numbers(Tables& tables) noexcept {
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) record->first_site = 0;
}

}  // namespace

CallSiteTable* CallSiteTable::make(Tables& tables) noexcept {
    void* memory = mmap(nullptr, sizeof(CallSiteTable), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    auto* table = new (memory) CallSiteTable;
    if (table->find(tables)) return table;
    // Not kept as it is: the next change finds memory again, perhaps.
    forget_numbers(tables);
    free(table);
    return nullptr;
}

void CallSiteTable::free(CallSiteTable* table) noexcept {
    if (table == nullptr) return;
    table->sites_.release();
    table->references_.release();
    munmap(table, sizeof(CallSiteTable));
}

bool CallSiteTable::find(Tables& tables) noexcept {
    const Stopwatch stopwatch(nanoseconds_);
    text_ = ObjectText::of(&tables, reason_);
    if (!text_) return true;
    text_bytes_ = text_->bytes();

    struct Start {
        Address at;
        TrampolineRecord* record;
    };
    Scratch<Start> starts;
    Scratch<Address> trampolines;
    bool complete = true;
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record) {
        record->first_site = 0;
        if (is_patchable(*record)) complete = complete && starts.push_back({start_of(*record), record});
    }
    constexpr auto by_address = [](const Start& a, const Start& b) { return a.at < b.at; };
    if (!std::is_sorted(starts.begin(), starts.end(), by_address)) std::sort(starts.begin(), starts.end(), by_address);
    for (const Start& start : starts) complete = complete && trampolines.push_back(start.at);

    if (complete && !starts.empty()) {
        // Trampolines may jump to trampolines, and chains call them; both are written as what they are.
        const AddressRange left_out[] = {{trampolines.begin()[0], trampolines.end()[-1] + std::ptrdiff_t{trampoline_bytes}},
                                         {Address::of(tables.chains), Address::of(tables.chains_end)}};
        text_->find(trampolines, left_out, [&](Address field) {
            const Start key{arch::reference_target(field), nullptr};
            TrampolineRecord& record = *std::lower_bound(starts.begin(), starts.end(), key, by_address)->record;
            const auto bytes = static_cast<std::uint32_t>(read_bytes(field, arch::capabilities().reference_bytes));
            complete = sites_.push_back({.field = field,
                                         .current = bytes,
                                         .next = record.first_site,
                                         .state = CallSiteState::unread,
                                         .was_written = false});
            if (complete) record.first_site = static_cast<std::uint32_t>(sites_.size());
            return complete;
        });
    }
    starts.release();
    trampolines.release();
    return complete;
}

bool CallSiteTable::confirm(TrampolineRecord& record) noexcept {
    std::uint32_t number = record.first_site;
    while (number != 0 && at(number).state != CallSiteState::unread) number = at(number).next;
    if (number == 0) return true;  // as at every change but the first
    const Stopwatch stopwatch(nanoseconds_);
    AddressRange last_read{};
    for (; number != 0; number = at(number).next) {
        CallSite& site = at(number);
        if (site.state != CallSiteState::unread || last_read.contains(site.field)) continue;
        if (!confirm_around(site, last_read)) return false;
    }
    return true;
}

void CallSiteTable::give_up_foreign() noexcept {
    for (CallSite& site : sites_)
        if (site.state == CallSiteState::ready && read_bytes(site.field, sizeof site.current) != site.current)
            site.state = CallSiteState::foreign;
}

// All sites of the function at once: its instructions are read once, however many sites it has.
bool CallSiteTable::confirm_around(CallSite& site, AddressRange& function) noexcept {
    function = text_->function_at(site.field);
    if (!function.contains(site.field)) {
        site.state = CallSiteState::no_branch;
        return true;
    }
    CallSite* first = &site;
    while (first != sites_.begin() && function.contains(first[-1].field)) --first;
    references_.clear();
    for (CallSite* each = first; each != sites_.end() && function.contains(each->field); ++each)
        if (!references_.push_back({each->field, false})) return false;
    arch::confirm_references(function, references_);
    for (const arch::Reference& reference : references_) {
        CallSite& each = *first++;
        if (each.state != CallSiteState::unread) continue;
        if (!reference.is_branch && reference.behind_trap) continue;  // tried again at the next change
        each.state = !reference.is_branch           ? CallSiteState::no_branch
                     : lies_in_one_word(each.field) ? CallSiteState::ready
                                                    : CallSiteState::across;
    }
    return true;
}

void Registry::change_call_sites(CallSites when) noexcept {
    call_sites_ = when;
    update_.lead_sites(when != CallSites::never);
}

// The sites of one trampoline are found and confirmed. False: there was no memory, so they stay with the trampoline.
bool Registry::confirm_sites(TrampolineRecord& record) noexcept {
    if (backend().no_call_sites != nullptr || !is_patchable(record)) return true;
    Tables& tables = *record.object;
    if (tables.call_sites == nullptr) {
        CallSiteTable* table = CallSiteTable::make(tables);
        if (table == nullptr) return false;
        if (!update_.reserve(places_ + table->size())) {
            forget_numbers(tables);
            CallSiteTable::free(table);
            return false;
        }
        places_ += table->size();
        tables.call_sites = table;
    }
    return CallSiteTable::of(tables)->confirm(record);
}

// Its calls are going to lead elsewhere.
void Registry::prepare_sites(Jump& jump) noexcept {
    jump.changed = 1;
    if (call_sites_ == CallSites::never) return;
    for (TrampolineRecord* record = jump.trampolines; record != nullptr; record = record->next)
        static_cast<void>(confirm_sites(*record));
}

// False: there was no memory for some.
bool Registry::confirm_wanted_sites(Tables& tables) noexcept {
    bool complete = true;
    for (TrampolineRecord* record = tables.records; record != tables.records_end; ++record)
        if (is_patchable(*record) && wants_sites(*static_cast<const Jump*>(*record->key)))
            complete = confirm_sites(*record) && complete;
    return complete;
}

void Registry::give_up_foreign_sites() noexcept {
    for (Tables* tables = first_; tables != nullptr; tables = tables->next)
        if (CallSiteTable* table = CallSiteTable::of(*tables)) table->give_up_foreign();
}

void Registry::forget_sites(Tables& tables) noexcept {
    CallSiteTable* table = CallSiteTable::of(tables);
    if (table == nullptr) return;
    places_ -= table->size();
    tables.call_sites = nullptr;
    CallSiteTable::free(table);
}

CallSitePatching Registry::call_sites() noexcept {
    static_cast<void>(backend());
    const Hold hold(*this);
    const char* reason = backend().no_call_sites;
    return {started_ ? call_sites_ : backend().call_sites, reason != nullptr ? reason : ""};
}

Result<void> Registry::set_call_sites(CallSites when) noexcept {
    static_cast<void>(backend());
    const Hold hold(*this);
    start();
    const CallSites before = call_sites_;
    change_call_sites(when);
    update_.begin();
    bool complete = true;
    for (Tables* tables = first_; tables != nullptr; tables = tables->next) {
        complete = confirm_wanted_sites(*tables) && complete;
        for (TrampolineRecord* record = tables->records; record != tables->records_end; ++record) {
            if (!is_patchable(*record)) continue;
            const auto& jump = *static_cast<const Jump*>(*record->key);
            // Such sites may be known, as neighbours of others, or from a time of `always`, which left them as they are.
            if (when == CallSites::on_change && jump.changed == 0) continue;
            complete = complete && update_.show(*record, jump.target, 0);
        }
    }
    Result<void> done;
    if (!complete)
        done = std::unexpected(Error{.code = Errc::out_of_memory});
    else
        done = update_.apply();
    if (!done) change_call_sites(before);
    return done;
}

CallSitePatching call_site_patching() noexcept { return Registry::instance().call_sites(); }

Result<void> set_call_sites(CallSites when) noexcept { return Registry::instance().set_call_sites(when); }

}  // namespace dynfunc
