// SPDX-License-Identifier: MIT
// What the templates of return_probe.hpp ask of the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <dynfunc/probe.hpp>

namespace dynfunc {

// Of one ReturnProbe. Exact once no thread is inside.
struct ReturnCounts {
    std::uint64_t calls;    // that came to the function and were delivered, tracked or not
    std::uint64_t missed;   // of these: no instance was free, no handler called
    std::uint64_t unwound;  // ended by an exception or the end of the thread
    std::uint64_t stale;    // never ended: left by longjmp, or with a stack that is gone
};

namespace detail {

struct ReturnCore;

struct ReturnPlan {
    // Of the types that ReturnOptions says, with T& for the first argument: called by assembly, which knows no types.
    using Handler = void (*)();
    Handler on_entry, on_return, on_unwind;
    std::size_t max_active, data_bytes, data_alignment;
    const void* context;
    void (*construct)(const void* context, void* data);
    void (*destroy)(void* data) noexcept;  // null: nothing is to be done
    Needs needs;
    int priority;
    bool is_enabled;
    AllowBreakpoint breakpoint;
};

// Throws: what `construct` throws, std::bad_alloc; then nothing is left behind.
DYNFUNC_EXPORT Result<ReturnCore*> attach_return(std::span<const ProbeTarget> targets, const ReturnPlan& plan);
DYNFUNC_EXPORT Result<void> enable_return(ReturnCore&);
DYNFUNC_EXPORT void disable_return(ReturnCore&) noexcept;
DYNFUNC_EXPORT void detach_return(ReturnCore&, bool wait) noexcept;
DYNFUNC_EXPORT ReturnCounts return_counts(const ReturnCore&) noexcept;
DYNFUNC_EXPORT std::size_t returns_in_flight(const ReturnCore&) noexcept;
DYNFUNC_EXPORT std::size_t most_returns(const ReturnCore&) noexcept;
DYNFUNC_EXPORT std::span<const Probe> probes_of(const ReturnCore&) noexcept;

}  // namespace detail

}  // namespace dynfunc
