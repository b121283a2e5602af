// SPDX-License-Identifier: MIT
// What a stub calls, and what that reads: the part of a probed place that a hit needs.
//
// bool dynfunc_probe_hit(HitSite*, Registers*) hands a hit to whoever listens, and says whether the thread is to go on
// elsewhere, or with another stack. It is assembly (arch/x86/probe_thunks.S), because it must touch no vector register and no
// compiler promises that of what it compiles together with the standard library's headers. No lock, no atomic read-modify-write
// but for missed hits, no memory. Its slow parts are below, called with vector registers kept.
#pragma once

#include <dynfunc/grace_period.hpp>
#include <dynfunc/probe.hpp>

#include <cstddef>
#include <cstdint>

#include "lock.hpp"
#include "probe_stub.hpp"

namespace dynfunc {

// Counters of one thread, by the number of the counter. Kept when the thread ends, and handed on to a new one: what is counted
// is the sum over all.
struct HitCounts {
    static constexpr std::size_t chunk_size = 512, chunks = 2048;

    std::uint64_t* chunk[chunks];  // made when they are needed; atomic
    int* errno_at;                 // of the thread
    std::atomic<bool> in_use;
    HitCounts* next;
};
static_assert(offsetof(HitCounts, errno_at) == 16384);

// Who listens at a place: written before it is shown, then only read.
struct ConsumerList : Retired {
    struct Entry {
        AfterHit (*on_hit)(ProbeHit&);
        void* data;
        bool (*filter)(void*);
        const bool* is_removed;           // atomic
        std::uint32_t chunk_at, slot_at;  // of the counter: in HitCounts, and in the chunk, in bytes
        detail::Consumer* consumer;
    };
    const Entry* last = nullptr;  // there is one
    bool needs_vectors = false;

    const Entry* begin() const noexcept { return reinterpret_cast<const Entry*>(this + 1); }
};
static_assert(sizeof(ConsumerList) == 32 && sizeof(ConsumerList::Entry) == 48 && sizeof(Retired) == 16);
static_assert(static_cast<int>(AfterHit::remove) == 1 && sizeof(AfterHit) == 1 && sizeof(ProbeHit) == 24);

struct HitSite {
    ConsumerList* consumers = nullptr;  // atomic; null: nobody
    Address at;
    std::uint64_t missed = 0;  // atomic
};

extern "C" {

// Of this thread. Initial-exec: no call to the dynamic linker's lazy allocator on a hit.
[[gnu::tls_model("initial-exec"), gnu::visibility("hidden")]] extern constinit thread_local HitCounts* dynfunc_hit_counts;
[[gnu::visibility("hidden")]] extern constinit arch::WithVectors dynfunc_keep_vectors;

// A thread's first hit; the first hit of a counter in its chunk; a handler that asked to be removed.
[[gnu::visibility("hidden")]] void dynfunc_register_hit_thread(void*, Registers*) noexcept;
[[gnu::visibility("hidden")]] void dynfunc_make_hit_chunk(void* entry, Registers*) noexcept;
[[gnu::visibility("hidden")]] void dynfunc_remove_after_hit(void* entry, Registers*) noexcept;

}  // extern "C"

}  // namespace dynfunc
