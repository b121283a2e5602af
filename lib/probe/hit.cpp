// SPDX-License-Identifier: MIT
// The hot path. No lock, no atomic read-modify-write but for missed hits, no memory; compiled without vector registers.
#include "hit.hpp"

#include "lock.hpp"

#define DYNFUNC_HOT [[gnu::section("dynfunc_hot")]]

namespace dynfunc {

constinit thread_local HitThread hit_thread{};

namespace {

struct Delivery {
    const ConsumerList* list;
    HitSite* site;
    HitCounts* counts;
};

// Calls what is compiled like any other code.
DYNFUNC_HOT void call_any(void (*function)(void*, Registers*), void* argument, Registers* registers) noexcept {
    if (registers->vectors != nullptr)
        function(argument, registers);  // they are kept already
    else
        keep_vectors(function, argument, registers);
}

DYNFUNC_HOT void deliver(void* delivery, Registers* registers) noexcept {
    const auto& [list, site, counts] = *static_cast<const Delivery*>(delivery);
    ProbeHit hit{.registers = *registers, .at = site->at, .data = nullptr};
    for (const ConsumerList::Entry& entry : *list) {
        if (__atomic_load_n(entry.is_removed, __ATOMIC_RELAXED)) continue;
        if (entry.filter != nullptr && !entry.filter(entry.data)) continue;
        std::uint64_t*& chunk = counts->chunk[entry.counter / HitCounts::chunk_size];
        if (chunk == nullptr) [[unlikely]] {
            std::uint32_t counter = entry.counter;
            call_any(&make_hit_chunk, &counter, registers);
        }
        if (chunk != nullptr) {
            std::uint64_t& count = chunk[entry.counter % HitCounts::chunk_size];
            __atomic_store_n(&count, count + 1, __ATOMIC_RELAXED);  // only this thread writes it
        }
        hit.data = entry.data;
        if (entry.on_hit(hit) == AfterHit::remove) [[unlikely]]
            call_any(&remove_after_hit, entry.consumer, registers);
    }
}

}  // namespace

DYNFUNC_HOT bool dynfunc_probe_hit(HitSite* site, Registers* registers) noexcept {
    HitThread& thread = hit_thread;
    if (thread.inside != nullptr || holds_a_lock()) [[unlikely]] {
        __atomic_fetch_add(&site->missed, 1, __ATOMIC_RELAXED);
        return false;
    }
    thread.inside = registers;
    registers->vectors = nullptr;
    if (thread.counts == nullptr || detail::reader_word == nullptr) [[unlikely]]
        keep_vectors(&register_hit_thread, nullptr, registers);
    HitCounts* const counts = thread.counts;
    const int errno_before = *counts->errno_at;
    const std::uint64_t stack = registers->stack_pointer();
    {
        const ReadSection reading;
        if (ConsumerList* const list = __atomic_load_n(&site->consumers, __ATOMIC_ACQUIRE)) {
            Delivery delivery{list, site, counts};
            if (list->needs_vectors)
                keep_vectors(&deliver, &delivery, registers);
            else
                deliver(&delivery, registers);
        }
    }
    *counts->errno_at = errno_before;
    thread.inside = nullptr;
    return registers->instruction_pointer() != site->at.value || registers->stack_pointer() != stack;
}

}  // namespace dynfunc
