// SPDX-License-Identifier: MIT
// The hot path. No lock, no atomic read-modify-write but for missed hits, no memory; compiled without vector registers.
#include "hit.hpp"

#include "lock.hpp"

#define DYNFUNC_HOT [[gnu::section("dynfunc_hot")]]

namespace dynfunc {

constinit thread_local HitCounts* hit_counts = nullptr;

namespace {

// Calls what is compiled like any other code.
[[gnu::cold]] DYNFUNC_HOT void call_any(void (*function)(void*, Registers*), void* argument, Registers* registers) noexcept {
    if (registers->vectors != nullptr)
        function(argument, registers);  // they are kept already
    else
        keep_vectors(function, argument, registers);
}

[[gnu::cold, gnu::noinline]] DYNFUNC_HOT std::uint64_t* make_chunk(std::uint32_t counter, Registers* registers) noexcept {
    call_any(&make_hit_chunk, &counter, registers);
    return hit_counts->chunk[counter / HitCounts::chunk_size];
}

// Without memory for the counter the hit is not counted.
[[gnu::always_inline]] inline void count_hit(std::uint32_t counter, Registers* registers) noexcept {
    std::uint64_t* chunk = hit_counts->chunk[counter / HitCounts::chunk_size];
    if (chunk == nullptr) [[unlikely]]
        chunk = make_chunk(counter, registers);
    if (chunk == nullptr) [[unlikely]]
        return;
    std::uint64_t& count = chunk[counter % HitCounts::chunk_size];
    __atomic_store_n(&count, count + 1, __ATOMIC_RELAXED);  // only this thread writes it
}

[[gnu::always_inline]] inline void deliver(const ConsumerList& list, Registers* registers) noexcept {
    ProbeHit hit{.registers = *registers, .at = Address{registers->instruction_pointer()}, .data = nullptr};
    const ConsumerList::Entry* entry = list.begin();
    do {
        if (__atomic_load_n(entry->is_removed, __ATOMIC_RELAXED)) [[unlikely]]
            continue;
        hit.data = entry->data;
        if (entry->filter != nullptr && !entry->filter(hit.data)) continue;
        count_hit(entry->counter, registers);
        if (entry->on_hit(hit) == AfterHit::remove) [[unlikely]]
            call_any(&remove_after_hit, entry->consumer, registers);
    } while (entry++ != list.last);
}

DYNFUNC_HOT void deliver_with_vectors(void* list, Registers* registers) noexcept {
    deliver(*static_cast<const ConsumerList*>(list), registers);
}

[[gnu::cold, gnu::noinline]] DYNFUNC_HOT bool miss(HitSite* site) noexcept {
    __atomic_fetch_add(&site->missed, 1, __ATOMIC_RELAXED);
    return false;
}

}  // namespace

// What is needed behind the handlers is read again there, and not kept in registers that would have to be saved here: the stub
// has saved them all.
DYNFUNC_HOT bool dynfunc_probe_hit(HitSite* site, Registers* registers) noexcept {
    if (thread_work != 0) [[unlikely]]
        return miss(site);
    thread_work = delivers_a_hit;
    registers->vectors = nullptr;
    if (hit_counts == nullptr || detail::reader_word == nullptr) [[unlikely]]
        keep_vectors(&register_hit_thread, nullptr, registers);
    {
        const ReadSection reading;
        if (ConsumerList* const list = __atomic_load_n(&site->consumers, __ATOMIC_ACQUIRE)) {
            const int errno_before = *hit_counts->errno_at;
            if (list->needs_vectors)
                keep_vectors(&deliver_with_vectors, list, registers);
            else
                deliver(*list, registers);
            *hit_counts->errno_at = errno_before;
        }
    }
    thread_work = 0;
    return registers->instruction_pointer() != site->at.value || registers->stack_pointer() != arch::stack_at_stub(registers);
}

}  // namespace dynfunc
