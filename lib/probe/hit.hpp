// SPDX-License-Identifier: MIT
// What a stub calls, and what it reads: the part of a probed place that a hit needs.
//
// hit.cpp is compiled without vector registers: what it calls without with_vectors() must be, too.
#pragma once

#include <dynfunc/grace_period.hpp>
#include <dynfunc/probe.hpp>

#include <cstddef>
#include <cstdint>

#include "probe_stub.hpp"

namespace dynfunc {

namespace detail {

struct Consumer;

}  // namespace detail

// Who listens at a place: written before it is shown, then only read.
struct ConsumerList : Retired {
    struct Entry {
        AfterHit (*on_hit)(ProbeHit&);
        void* data;
        bool (*filter)(void*);
        const bool* is_removed;  // atomic
        std::uint32_t counter;
        detail::Consumer* consumer;
    };
    const Entry* last = nullptr;  // there is one
    bool needs_vectors = false;

    const Entry* begin() const noexcept { return reinterpret_cast<const Entry*>(this + 1); }
};

struct HitSite {
    ConsumerList* consumers = nullptr;  // atomic; null: nobody
    Address at;
    std::uint64_t missed = 0;  // atomic
};

// Counters of one thread, by the number of the counter. Kept when the thread ends, and handed on to a new one: what is counted
// is the sum over all.
struct HitCounts {
    static constexpr std::size_t chunk_size = 512, chunks = 2048;

    std::uint64_t* chunk[chunks];  // made when they are needed; atomic
    int* errno_at;                 // of the thread
    std::atomic<bool> in_use;
    HitCounts* next;
};

// Of this thread. Initial-exec: no call to the dynamic linker's lazy allocator on a hit.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local HitCounts* hit_counts;

// The slow parts, called with vector registers kept. `registers` is only handed through.
void register_hit_thread(void*, Registers*) noexcept;
void make_hit_chunk(void* counter, Registers*) noexcept;     // counter: a std::uint32_t
void remove_after_hit(void* consumer, Registers*) noexcept;  // a detail::Consumer

extern constinit arch::WithVectors keep_vectors;

// Hands a hit to whoever listens. Whether the thread is to go on elsewhere, or with another stack.
extern "C" [[gnu::visibility("hidden")]] bool dynfunc_probe_hit(HitSite* site, Registers* registers) noexcept;

}  // namespace dynfunc
