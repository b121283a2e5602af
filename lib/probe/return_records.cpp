// SPDX-License-Identifier: MIT
// A call that will never end (its frame was left by longjmp, its stack is gone) is known by the word of the stack that would
// lead back to its slot: something else stands there. Nothing is kept of threads and stacks, so calls may begin on one thread
// and end on another, and stacks may be anywhere.
#include "return_records.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <dynfunc/detail/machine.hpp>
#include <dynfunc/object_pool.hpp>

#include "backend.hpp"
#include "fatal.hpp"
#include "os.hpp"
#include "places.hpp"
#include "registry.hpp"
#include "return_slots.hpp"
#include "stub_frames.hpp"
#include "text_poke.hpp"

namespace dynfunc {
namespace {

// One behind the other; the list only grows.
struct Area {
    Address slots;
    const Area* next;
};
constinit std::atomic<const Area*> more_areas{nullptr};

// The thread sanitizer keeps no record of memory that was linked as code: with it the library's own area is left alone.
#ifdef DYNFUNC_DETAIL_THREAD_SANITIZER
constexpr bool uses_own_area = false;
#else
constexpr bool uses_own_area = true;
#endif

constexpr std::size_t code_bytes = arch::slot_to_record;
constexpr std::size_t record_bytes = arch::slots_at_once * sizeof(ReturnRecord);

ReturnRecord* record_in(Address slots, std::uint64_t address) noexcept {
    const std::uint64_t offset = address - slots.value;
    if (offset >= code_bytes || offset % arch::slot_bytes != static_cast<std::uint64_t>(arch::slot_return)) return nullptr;
    return Address{address - static_cast<std::uint64_t>(arch::slot_return) + code_bytes}.as<ReturnRecord*>();
}

std::uint64_t load(const std::uint64_t& value) noexcept { return __atomic_load_n(&value, __ATOMIC_ACQUIRE); }

// Whether what stands in a word comes to the record's slot in the end: several records share a word, each of which leads to the
// one before it. True also where it cannot be said at this moment.
bool leads_to(const ReturnRecord& record, std::uint64_t word) noexcept {
    constexpr int most = 1 << 16;
    for (int i = 0; i < most; ++i) {
        const ReturnRecord* const next = ReturnRecords::record_of(word);
        if (next == nullptr) return false;
        if (next == &record) return true;
        const std::uint64_t state = load(next->state);
        word = load(next->return_to);
        if (load(next->state) != state) return true;
        if (ReturnRecord::phase(state) == ReturnPhase::free) return false;
    }
    return true;
}

class Collection {
public:
    void look_at(ReturnRecord& record) noexcept {
        const std::uint64_t state = load(record.state);
        const ReturnPhase phase = ReturnRecord::phase(state);
        if (phase == ReturnPhase::free) return;
        ++in_flight_;
        if (phase == ReturnPhase::unwinding) return;
        // Where the return address is in a register, no word says whether anybody still has it: a function keeps it where it
        // likes, and may have signed it. Such a call counts as in flight for ever, and its instance is lost to the pool.
        if (!is_return_on_stack_) return;
        looks_[count_] = {&record, state, 0};
        readings_[count_] = {Address{load(record.stack_word)}.as<const void*>(), &looks_[count_].word, sizeof(std::uint64_t)};
        if (++count_ == looks_.size()) finish();
    }
    std::size_t finish() noexcept {
        const bool all = count_ == 0 || os::read_memory(std::span(readings_).first(count_));
        for (std::size_t i = 0, end = std::exchange(count_, 0); i < end; ++i) {
            Look& look = looks_[i];
            // A stack that is unmapped has no frames.
            const bool is_there = all || os::read_memory(std::span(readings_).subspan(i, 1));
            if (is_there && may_return(look, readings_[i])) continue;
            // Only if it is still the same call: what was read may be what stood there before, or behind it.
            if (!__atomic_compare_exchange_n(&look.record->state, &look.state,
                                             ReturnRecord::with_phase(look.state, ReturnPhase::free), false, __ATOMIC_ACQ_REL,
                                             __ATOMIC_RELAXED))
                continue;
            --in_flight_;
            __atomic_fetch_add(&look.record->handlers->stale, 1, __ATOMIC_RELAXED);
            give_back_instance(*look.record);
        }
        return in_flight_;
    }

private:
    struct Look {
        ReturnRecord* record;
        std::uint64_t state, word;
    };

    // What the word leads to may end meanwhile; before it does it gives back what it found. So the word of a call that is not
    // over never leads elsewhere twice without having been another one in between.
    static bool may_return(Look& look, const os::Reading& reading) noexcept {
        // In the other phases a word that is return_to is that of a later call from the same place.
        const ReturnPhase phase = ReturnRecord::phase(look.state);
        const bool may_be_what_it_was = phase == ReturnPhase::entering || phase == ReturnPhase::leaving;
        constexpr int most = 8;
        bool was_foreign = false;
        for (int i = 0; i < most; ++i) {
            const std::uint64_t word = look.word;
            if (may_be_what_it_was && word == load(look.record->return_to)) return true;
            if (leads_to(*look.record, word)) return true;
            // Or the unwinder is about to end a call above this one in the same word (return_unwind.cpp).
            if (word == arch::return_landing().value) return true;
            // Read twice: the kernel's copy of a word that changes may be half of each.
            const bool is_foreign = ReturnRecords::record_of(word) == nullptr;
            if (is_foreign && was_foreign) return false;
            was_foreign = is_foreign;
            if (!os::read_memory({&reading, 1})) return false;
            if (!is_foreign && look.word == word) return false;
        }
        return true;
    }

    std::array<Look, os::Reading::most> looks_;
    std::array<os::Reading, os::Reading::most> readings_;
    std::size_t count_ = 0, in_flight_ = 0;
    bool is_return_on_stack_ = arch::entry_frame().is_return_on_stack;
};

}  // namespace

constinit bool dynfunc_has_more_slots = false;

void give_back_instance(ReturnRecord& record) noexcept { detail::pool_push(*record.handlers->pool, record.object); }

ReturnRecord* ReturnRecords::record_of(std::uint64_t address) noexcept {
    if (ReturnRecord* const found = record_in(arch::return_slots(), address)) return found;
    for (const Area* area = more_areas.load(std::memory_order_acquire); area != nullptr; area = area->next)
        if (ReturnRecord* const found = record_in(area->slots, address)) return found;
    return nullptr;
}

std::size_t ReturnRecords::collect(std::span<ReturnRecord* const> records) noexcept {
    const os::KeepErrno keep;
    Collection collection;
    for (ReturnRecord* record : records) collection.look_at(*record);
    return collection.finish();
}

// The records of the library are linked behind their slots, as code.
Result<void> ReturnRecords::open() noexcept {
    if (is_open_) return {};
    const Address records = arch::return_slots() + static_cast<std::ptrdiff_t>(code_bytes);
    if (mprotect(records.as<void*>(), record_bytes, PROT_READ | PROT_WRITE) != 0)
        return std::unexpected(Error{.code = Errc::out_of_memory, .address = records, .os_error = errno});
    is_open_ = true;
    return {};
}

Result<void> ReturnRecords::grow() {
    Address slots = arch::return_slots();
    free_.reserve(all_ + arch::slots_at_once);  // to be given back without memory
    if (all_ == 0 && uses_own_area) {
        if (auto opened = open(); !opened) return opened;
    } else {
        void* const memory =
            mmap(nullptr, code_bytes + record_bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return std::unexpected(Error{.code = Errc::out_of_memory, .os_error = errno});
        slots = Address::of(memory);
        const auto fail = [&](Error error) {
            munmap(memory, code_bytes + record_bytes);
            return std::unexpected(error);
        };
        if (mprotect((slots + static_cast<std::ptrdiff_t>(code_bytes)).as<void*>(), record_bytes, PROT_READ | PROT_WRITE) != 0)
            return fail(Error{.code = Errc::out_of_memory, .address = slots, .os_error = errno});
        std::array<std::byte, 4096> page;
        for (std::size_t at = 0; at < page.size(); at += arch::slot_bytes)
            arch::encode_slot(std::span(page).subspan(at).first<arch::slot_bytes>());
        {
            const Registry::Hold hold(Registry::instance());
            TextPoke poke(*backend().writing);
            for (std::size_t at = 0; at < code_bytes; at += page.size())
                if (auto done = poke.write_unseen(slots + static_cast<std::ptrdiff_t>(at), page); !done)
                    return fail(done.error());
            if (auto done = poke.sync(); !done) return fail(done.error());
        }
        auto* const area = new Area{slots, more_areas.load(std::memory_order_relaxed)};
        if (!register_slot_frames(slots)) {
            delete area;
            return fail(Error{.code = Errc::out_of_memory});
        }
        more_areas.store(area, std::memory_order_release);
        __atomic_store_n(&dynfunc_has_more_slots, true, __ATOMIC_RELEASE);
    }
    all_ += arch::slots_at_once;
    // The lowest comes last, and is taken first.
    auto* const records = (slots + static_cast<std::ptrdiff_t>(code_bytes)).as<ReturnRecord*>();
    for (std::size_t i = arch::slots_at_once; i-- != 0;) free_.push_back(records + i);
    return {};
}

Result<std::vector<ReturnRecord*>> ReturnRecords::take(std::size_t count) {
    std::vector<ReturnRecord*> taken;
    taken.reserve(count);
    while (free_.size() < count)
        if (auto grown = grow(); !grown) return std::unexpected(grown.error());
    for (; taken.size() < count; free_.pop_back()) taken.push_back(free_.back());
    return taken;
}

void ReturnRecords::give_back(std::span<ReturnRecord* const> records) noexcept {
    free_.insert(free_.end(), records.rbegin(), records.rend());
}

void dynfunc_ask_for_slot(void* address, Registers*) noexcept {
    auto& at = *static_cast<std::uint64_t*>(address);
    if (ReturnRecords::record_of(at) == nullptr) at = 0;
}

void dynfunc_returned_twice(ReturnRecord*) noexcept {
    fatal("a probed call returned that had ended: its stack was moved, or its context resumed twice");
}

}  // namespace dynfunc
