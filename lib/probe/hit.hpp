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

struct ReturnRecord;

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
        const bool* is_disabled;          // atomic
        std::uint32_t chunk_at, slot_at;  // of the counter: in HitCounts, and in the chunk, in bytes
        detail::Consumer* consumer;
    };
    const Entry* last = nullptr;  // there is one; these three at 16, 24 and 25
    bool needs_vectors = false;
    bool is_one_return = false;  // a return probe's alone, without filter and vectors

    const Entry* begin() const noexcept { return reinterpret_cast<const Entry*>(this + 1); }
};
static_assert(sizeof(ConsumerList) == 32 && sizeof(ConsumerList::Entry) == 48 && sizeof(Retired) == 16);
static_assert(static_cast<int>(AfterHit::disable) == 1 && sizeof(AfterHit) == 1 && sizeof(ProbeHit) == 24);

struct HitSite {
    ConsumerList* consumers = nullptr;  // atomic; null: nobody
    Address at;
    std::uint64_t missed = 0;  // atomic
    Address copy;              // of the displaced instructions
};

// What handlers are given, and what the library's own (return_call.hpp) know to be behind it.
struct DeliveredHit {
    Registers* registers;  // these three: a ProbeHit
    Address at;
    void* data;
    HitSite* site;
    int errno_before;
    ReturnRecord *tracked, *last_tracked;  // of the call that begins here: to be made active when all handlers were called
};
static_assert(sizeof(DeliveredHit) == 56 && offsetof(DeliveredHit, tracked) == 40);
static_assert(offsetof(HitSite, missed) == 16 && offsetof(HitSite, copy) == 24);

// The hit, or the return, that this thread delivers: what a later one needs that finds it left. Whether there is one, and
// where, is one word: two could be those of different hits, where signal handlers have their own between the stores. Nothing is
// noted twice: between the last two a record is in neither for an instruction.
struct Delivery {
    std::uint64_t at;       // its Registers, on the stack; 0: none is delivered
    std::uint64_t outer;    // of the reader word, before
    ReturnRecord* popped;   // its instance is taken, and on_entry is asked
    ReturnRecord* tracked;  // as DeliveredHit's, but for those that are made active already
};
static_assert(offsetof(Delivery, popped) == 16 && offsetof(Delivery, tracked) == 24);

extern "C" {

// Of this thread. Initial-exec: no call to the dynamic linker's lazy allocator on a hit.
[[gnu::tls_model("initial-exec"), gnu::visibility("hidden")]] extern constinit thread_local HitCounts* dynfunc_hit_counts;
[[gnu::visibility("hidden")]] extern constinit arch::WithVectors dynfunc_keep_vectors;

[[gnu::tls_model("initial-exec"), gnu::visibility("hidden")]] extern constinit thread_local Delivery dynfunc_delivery;

// Where a signal handler that interrupted the delivery has left it by siglongjmp(): this thread delivers nothing any more, and
// its read section is closed.
[[gnu::visibility("hidden")]] void dynfunc_forget_left_hit(void*, Registers*) noexcept;
// A thread's first hit; the first hit of a counter in its chunk; a handler that asked to be disabled.
[[gnu::visibility("hidden")]] void dynfunc_register_hit_thread(void*, Registers*) noexcept;
[[gnu::visibility("hidden")]] void dynfunc_make_hit_chunk(void* entry, Registers*) noexcept;
[[gnu::visibility("hidden")]] void dynfunc_disable_after_hit(void* entry, Registers*) noexcept;

}  // extern "C"

// Whether what this thread calls now is called by the library, or by a handler.
[[gnu::always_inline]] inline bool is_at_work() noexcept { return dynfunc_thread_work != 0 || dynfunc_delivery.at != 0; }

}  // namespace dynfunc
