// SPDX-License-Identifier: MIT
// One tracked call: what arch/x86/return_slots.S reads and writes.
#pragma once

#include <dynfunc/detail/pool_core.hpp>
#include <dynfunc/registers.hpp>

#include <cstddef>
#include <cstdint>

#include "hit.hpp"

namespace dynfunc {

// What a call needs to know of its ReturnProbe. The handlers are of the types that ReturnOptions says.
struct ReturnHandlers {
    detail::PoolCore* pool;
    void (*on_entry)();
    void (*on_return)();
    std::uint64_t missed;  // atomic
    bool need_vectors;
    bool is_detached;  // atomic
    void (*on_unwind)(void* data);
    std::uint64_t unwound, stale;  // atomic
};

// One for each instance, at a fixed distance behind its slot.
//
//     state    bits 0..2   the phase
//              bits 3..63  how often it was used
//
//     free       nobody's but the pool's, or the thread's that popped the instance
//     entering   return_to and stack_word are valid; the word is what it was, or the place of return
//     active     the word is the place of return, or that of a record whose return_to leads here
//     returning  the same, while on_return is called
//     leaving    the word is that, or return_to
//     unwinding  nothing is said about the word
//
// Only the thread that has the call changes the state, by plain stores, but for -> free of a call that will never end
// (return_records.cpp), by compare-and-swap.
enum class ReturnPhase : std::uint8_t { free, entering, active, returning, leaving, unwinding };

struct ReturnRecord {
    std::uint64_t body;        // what the slot calls
    std::uint64_t return_to;   // what was in the word
    std::uint64_t stack_word;  // its address
    std::uint64_t state;       // atomic
    ReturnHandlers* handlers;
    void* data;          // the user's
    void* object;        // of the pool: begins with the address of this
    ReturnRecord* next;  // of those that one hit begins to track

    static constexpr std::uint64_t phase_mask = 7;
    static ReturnPhase phase(std::uint64_t state) noexcept { return static_cast<ReturnPhase>(state & phase_mask); }
    static std::uint64_t with_phase(std::uint64_t state, ReturnPhase phase) noexcept {
        return (state & ~phase_mask) | static_cast<std::uint64_t>(phase);
    }
};
static_assert(sizeof(ReturnRecord) == 64 && offsetof(ReturnRecord, state) == 24 && offsetof(ReturnRecord, data) == 40 &&
              offsetof(ReturnRecord, next) == 56);
static_assert(offsetof(ReturnHandlers, missed) == 24 && offsetof(ReturnHandlers, need_vectors) == 32 &&
              offsetof(ReturnHandlers, is_detached) == 33);
static_assert(static_cast<int>(ReturnPhase::entering) == 1 && static_cast<int>(ReturnPhase::active) == 2 &&
              static_cast<int>(ReturnPhase::returning) == 3 && static_cast<int>(ReturnPhase::leaving) == 4);
static_assert(offsetof(detail::PoolCore, area) == 0 && offsetof(detail::PoolCore, block_bytes) == 8 &&
              offsetof(detail::PoolCore, limit) == 16 && detail::pool_core_bytes == 192 && detail::pool_stack_slots == 24 &&
              detail::pool_stack_count == 127 && detail::pool_stack_popped == 255);

// What an instance of the pool begins with; the user's data follow.
struct ReturnInstance {
    ReturnRecord* record;
};

extern "C" {

// Called by the assembly, with vector registers kept. `pair`: where the handlers stand, and behind them the instance.
[[gnu::visibility("hidden")]] void dynfunc_pop_instance(void* pair, Registers*) noexcept;
[[gnu::visibility("hidden")]] void dynfunc_push_instance(void* pair, Registers*) noexcept;
// Of records that were to be tracked, and whose call does not take place.
[[gnu::visibility("hidden")]] void dynfunc_forget_tracked(void* first, Registers*) noexcept;
// Leaves the address if it is a place of return in an area beyond the first, otherwise null.
[[gnu::visibility("hidden")]] void dynfunc_ask_for_slot(void* address, Registers*) noexcept;
[[noreturn, gnu::visibility("hidden")]] void dynfunc_returned_twice(ReturnRecord* record) noexcept;
// An exception leaves a call.
[[gnu::visibility("hidden")]] void dynfunc_return_unwound(ReturnRecord* record) noexcept;

// Whether there are areas beyond the first.
[[gnu::visibility("hidden")]] extern constinit bool dynfunc_has_more_slots;

}  // extern "C"

}  // namespace dynfunc
