// SPDX-License-Identifier: MIT
// Between typed_wrap.hpp and the library: what a wrapped place hands to the wrapper, and what is known of one wrap.
#pragma once

#include <atomic>
#include <cstdint>

#include <dynfunc/address.hpp>
#include <dynfunc/detail/export.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/probe.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

struct Place;

namespace detail {

// One wrap, from attaching until it was detached, a grace period is over (no call begins any more), and the last call has
// ended. The callable stands behind it.
struct WrapCore : Retired {
    void (*destroy)(WrapCore& core) noexcept = nullptr;
    // Of its place; and what is called at the end of each call, once the callable is left.
    void (*original)() = nullptr;
    void (*end)(WrapCore& core) noexcept = nullptr;
    // The library's.
    Place* place = nullptr;
    std::uint32_t began = 0, ended = 0;                // counters of calls
    std::uint64_t began_before = 0, ended_before = 0;  // of them, when they were given to this one
    WrapCore* next_left = nullptr;
};

// Of a wrapped place, for ever: a thread may be on its way here for as long as it likes.
struct WrapContext {
    using Begin = WrapCore* (*)(WrapContext& context) noexcept;

    // Both are written again, with the same value, at each attach.
    std::atomic<void (*)()> original{nullptr};  // the copy of what was displaced, and on from there
    // The wrap that this call belongs to, which is counted; null: there is none, and it belongs to the original alone. By
    // pointers, because a call through a table that the dynamic linker fills in lazily may run anything.
    std::atomic<Begin> begin{nullptr};
    std::atomic<WrapCore*> active{nullptr};
};

// Where a thunk leads, and in which register of arguments it hands over its WrapContext.
struct WrapEntry {
    Address entry;
    bool in_vector_register = false;
    std::uint8_t number = 0;

    friend bool operator==(const WrapEntry&, const WrapEntry&) = default;
};

// `number` counts on behind the registers of a kind: then there is none left.
struct WrapPlan {
    Address in_integer_register, in_vector_register;  // the wrapper, twice
    unsigned integer, vector;
    AllowBreakpoint breakpoint;
};

DYNFUNC_EXPORT Result<void> attach_wrap(Address at, const WrapPlan& plan, WrapCore& core);
DYNFUNC_EXPORT void detach_wrap(WrapCore& core, bool wait) noexcept;
DYNFUNC_EXPORT std::uint64_t wrap_calls(const WrapCore& core) noexcept;

}  // namespace detail
}  // namespace dynfunc
