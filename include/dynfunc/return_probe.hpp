// SPDX-License-Identifier: MIT
// Return probes: code of yours that runs when a function is called and again when that call ends, with data of that call.
//
//     struct Call { std::uint64_t fd, began; };
//     auto probe = dynfunc::ReturnProbe<Call>::attach(&read_page, {
//         .on_entry = [](Call& call, dynfunc::Registers& registers) {
//             call = {registers.integer(0), now()};
//             return call.fd < 3 ? dynfunc::Track::skip : dynfunc::Track::track;
//         },
//         .on_return = [](Call& call, dynfunc::Registers& registers) {
//             record(call.fd, now() - call.began, registers.result());        // result() may be changed
//         },
//         .on_unwind = [](Call& call) { record_exception(call.fd); }});
//
// How: each call that is tracked takes an instance from an ObjectPool, with your T in it; nothing is allocated, counted by
// reference or locked. An instance owns a few bytes of code which call the function again, at the same place of the stack: what
// returns, returns to where processors expect it, and unwinders, debuggers and exceptions find the real caller.
//
// An instance that no call will give back (its frame was left by longjmp, its coroutine was destroyed) is found when they run
// out, or are counted: the word of the stack that led to it has been overwritten. So a frame that was left counts as a call in
// flight until something else is called at the same depth.
//
// Limits: code that finds the frames of its own stack without unwind information reads places of return that it does not know,
// and may end the program: the engines of JavaScript do where their generated code has called a function (on_entry may skip
// such calls, which come from code that no unwind table knows). What moves a stack to other addresses while a call is on it,
// and back, confuses that; so does a context that is resumed twice. The stack pointer and where to go on are not on_return's to
// change: what it writes there is ignored. Handlers run as those of probes do (probe.hpp): what they call is not delivered
// again, they must not throw, and not leave by longjmp. Where one is left nevertheless, by the handler of a signal that
// interrupted it, the instance is given back, and synchronize() no longer waits for it, when this thread next comes to
// something probed or attaches or detaches.
//
// After: the kernel's kretprobes and rethook, for what they are for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>

#include <dynfunc/detail/return_core.hpp>
#include <dynfunc/probe.hpp>

namespace dynfunc {

enum class Track : std::uint8_t {
    skip,   // this call returns unseen
    track,  // on_return or on_unwind will be called
};

// Of a probe that needs no data.
struct NoCallData {};

template <class T>
struct ReturnOptions {
    // At the call, before the first instruction. Null: every call is tracked. `registers` as for a Probe; a handler that makes
    // the function not run (return_now) has seen a call that is not tracked.
    Track (*on_entry)(T& data, Registers& registers) = nullptr;
    // When it returns: result() and the other registers are as the caller will find them, but for the flags, which say nothing
    // there; stack_pointer() is the caller's.
    void (*on_return)(T& data, Registers& registers) = nullptr;
    // When an exception, or the end of the thread, leaves it. Not called for longjmp.
    void (*on_unwind)(T& data) = nullptr;
    // How many calls can be in flight at once, in all threads and recursions; further ones are missed. 0: 64, or 4 for each
    // CPU.
    std::size_t max_active = 0;
    // Called once for each instance, in attach(). T is value-initialised before, and is not changed between calls.
    std::function<void(T&)> on_create = {};
    Needs needs = Needs::vectors;  // of on_entry and on_return
    int priority = 0;              // as of a Probe; returns come in the reverse order
    bool is_enabled = true;        // otherwise it waits for enable()
    AllowBreakpoint breakpoint = AllowBreakpoint::if_needed;
};

// Handlers on one function, or on several which share the instances. Move-only.
template <class T = NoCallData>
class [[nodiscard]] ReturnProbe {
public:
    // Threads, blocking, ordering, errors: as Probe::attach(); calls that began before are not seen to return. And:
    // not_a_function: what is there is not entered by a call; denied: also functions that look at where they were called from
    // (setjmp() and its like, vfork, getcontext, dlopen, dlsym); no_callback: neither on_entry nor on_return nor on_unwind;
    // capacity_out_of_range.  Throws: std::bad_alloc, what T's constructor or on_create throws.
    static Result<ReturnProbe> attach(const ProbeTarget& target, const ReturnOptions<T>& options) {
        return attach({&target, 1}, options);
    }
    // All or none; Error::element says which one is refused.
    static Result<ReturnProbe> attach(std::span<const ProbeTarget> targets, const ReturnOptions<T>& options) {
        detail::ReturnPlan plan{.on_entry = reinterpret_cast<detail::ReturnPlan::Handler>(options.on_entry),
                                .on_return = reinterpret_cast<detail::ReturnPlan::Handler>(options.on_return),
                                .on_unwind = reinterpret_cast<detail::ReturnPlan::Handler>(options.on_unwind),
                                .max_active = options.max_active,
                                .data_bytes = sizeof(T),
                                .data_alignment = alignof(T),
                                .context = &options.on_create,
                                .construct = &construct,
                                .destroy = nullptr,
                                .needs = options.needs,
                                .priority = options.priority,
                                .is_enabled = options.is_enabled,
                                .breakpoint = options.breakpoint};
        if constexpr (!std::is_trivially_destructible_v<T>)
            plan.destroy = [](void* data) noexcept { static_cast<T*>(data)->~T(); };
        auto core = detail::attach_return(targets, plan);
        if (!core) return std::unexpected(core.error());
        return ReturnProbe(*core);
    }

    ReturnProbe() noexcept = default;
    ReturnProbe(ReturnProbe&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    ReturnProbe& operator=(ReturnProbe&& other) noexcept {
        if (this == &other) return *this;
        detach();
        core_ = std::exchange(other.core_, nullptr);
        return *this;
    }
    ~ReturnProbe() { detach(); }

    // Afterwards no handler is called, and no thread is inside one; from inside a handler or a ReadSection it does not wait.
    // Calls in flight return unseen, whenever that is; what they need, and T, stay until the last of them has, and some
    // ReturnProbe is attached, detached or counted after that. Blocks: as Probe::detach().
    void detach() noexcept {
        if (core_ != nullptr) detail::detach_return(*std::exchange(core_, nullptr), true);
    }
    // Without waiting: synchronize() does it once for many.
    void detach_nosync() noexcept {
        if (core_ != nullptr) detail::detach_return(*std::exchange(core_, nullptr), false);
    }

    // As a Probe's, of all functions, all or none. Calls in flight are seen to return, also while it is disabled.
    Result<void> enable() { return core_ == nullptr ? Result<void>{} : detail::enable_return(*core_); }
    void disable() noexcept {
        if (core_ != nullptr) detail::disable_return(*core_);
    }

    explicit operator bool() const noexcept { return core_ != nullptr; }

    // Looks for instances that no call will give back.  Threads: any.  Blocks: on attaches and detaches.
    ReturnCounts counts() const noexcept { return core_ == nullptr ? ReturnCounts{} : detail::return_counts(*core_); }
    // How many calls are being tracked. Also looks for such instances.
    std::size_t in_flight() const noexcept { return core_ == nullptr ? 0 : detail::returns_in_flight(*core_); }
    std::size_t max_active() const noexcept { return core_ == nullptr ? 0 : detail::most_returns(*core_); }
    // Of the functions, in the order of the targets: their places and how often they were hit.
    std::span<const Probe> probes() const noexcept {
        return core_ == nullptr ? std::span<const Probe>() : detail::probes_of(*core_);
    }

private:
    explicit ReturnProbe(detail::ReturnCore* core) noexcept : core_(core) {}

    static void construct(const void* context, void* at) {
        T* const data = new (at) T();
        const auto& on_create = *static_cast<const std::function<void(T&)>*>(context);
        if (!on_create) return;
        try {
            on_create(*data);
        } catch (...) {
            data->~T();
            throw;
        }
    }

    detail::ReturnCore* core_ = nullptr;
};

}  // namespace dynfunc
