// SPDX-License-Identifier: MIT
// Wraps: a function of yours that runs instead of a function whose signature is known, and calls it, or not.
//
//     auto wrap = dynfunc::wrap_typed(&parse, [](auto original, const char* text) {
//         const auto began = now();
//         const int result = original(text);
//         record(now() - began);
//         return result;
//     });
//     if (!wrap) std::fprintf(stderr, "%s\n", wrap.error().message().c_str());     // ends with the TypedWrap
//
// It may call `original` once, not at all or several times, change arguments and result, throw and catch: it is compiled code
// with a frame of its own, and what it calls returns to it. Arguments and results are of any type that the function has. It is
// called in any number of threads at once.
//
// How: the jump of a probe (probe.hpp, also for its classes) leads to a few instructions which hand the address of what
// belongs to this place to a wrapper that the compiler has made of the signature, in a register that the arguments do not use.
// Behind them stands the copy of what the jump replaced: `original` is its address. No register is saved for nothing, and the
// processor's prediction of returns stays right.
//
// What is not wrapped: calls that a thread makes while it delivers a probe's hit, or inside the library; they go to the
// original. Nothing else is left out: if `around` calls the function itself, and not `original`, that call is wrapped too.
// Where a function leads back to its own first instruction (a tail call, or a loop), that is a call.
//
// Limits:
// - A function with a variable number of arguments does not compile, nor one with more than 512 bytes of arguments; nor an
//   argument by value of a type that cannot be moved.
// - One wrap for each function, and no probe at the same place: whoever comes second is refused (patched_place).
// - The object that the wrapper is a part of (who calls wrap_typed) stays loaded, also after detach(): a thread that has come
//   to the jump before may enter the wrapper at any time later. For the same reason a few hundred bytes for each pair of a
//   function and a type of callable stay for ever; they serve again when that pair is wrapped again.
// - A call of which the frame is left by longjmp, or is on a stack that is thrown away, never ends: its callable stays for
//   ever. So it is, in a child process, if another thread of the parent was inside in the moment of fork().
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <dynfunc/detail/arguments.hpp>
#include <dynfunc/detail/wrap_core.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

namespace detail {

// Where a pointer, and a double, behind the parameters are passed.
struct FreePlaces {
    unsigned integer, vector;
};
template <class... A>
FreePlaces free_places() noexcept {
    using Asked = ArgumentProbe<std::index_sequence<>, A...>;
    constexpr auto numbers = std::make_index_sequence<numbered_places>();
    return {.integer = static_cast<unsigned>(call_with_numbers<std::uintptr_t>(reinterpret_cast<void*>(&Asked::data), numbers)),
            .vector = static_cast<unsigned>(call_with_numbers<double>(reinterpret_cast<void*>(&Asked::vector), numbers))};
}

template <class T>
inline constexpr std::size_t most_words_of = (sizeof(T) + 7) / 8 + (alignof(T) > 8 ? alignof(T) / 8 : 0);
template <class T>
inline constexpr std::size_t most_words_of<T&> = 1;
template <class T>
inline constexpr std::size_t most_words_of<T&&> = 1;

template <class Callable>
struct OwnedAround : WrapCore {
    explicit OwnedAround(Callable&& from) : callable(std::move(from)) {
        destroy = [](WrapCore& core) noexcept { delete static_cast<OwnedAround*>(&core); };
    }
    Callable callable;
};

struct [[nodiscard]] CallEnd {
    explicit CallEnd(WrapCore& of) noexcept : core(of) {}
    ~CallEnd() { core.end(core); }
    CallEnd(const CallEnd&) = delete;

    WrapCore& core;
};

// What takes the function's place: the same parameters, and one more behind them.
template <class Callable, bool is_noexcept, class R, class... A>
struct Wrapper {
    using Original = R (*)(A...) noexcept(is_noexcept);
    static_assert(std::is_invocable_r_v<R, Callable&, Original, A...>,
                  "dynfunc: the callable takes the original function and its arguments, and returns what it returns");
    static_assert((most_words_of<A> + ... + 0) <= most_argument_words, "dynfunc: more than 512 bytes of arguments");

    static R in_integer_register(A... arguments, WrapContext* context) noexcept(is_noexcept) {
        return run(*context, std::forward<A>(arguments)...);
    }
    static R in_vector_register(A... arguments, double context) noexcept(is_noexcept) {
        return run(*std::bit_cast<WrapContext*>(context), std::forward<A>(arguments)...);
    }
    static WrapPlan plan(AllowBreakpoint breakpoint) noexcept {
        // An address of the result is passed as a pointer before the arguments would be.
        const FreePlaces free = is_result_hidden<R>() ? free_places<void*, A...>() : free_places<A...>();
        return {.in_integer_register = Address::of(&in_integer_register),
                .in_vector_register = Address::of(&in_vector_register),
                .integer = free.integer,
                .vector = free.vector,
                .breakpoint = breakpoint};
    }

private:
    [[gnu::always_inline]] static R run(WrapContext& context, A&&... arguments) noexcept(is_noexcept) {
        WrapCore* const core = context.begin.load(std::memory_order_acquire)(context);
        if (core == nullptr) [[unlikely]]
            return reinterpret_cast<Original>(context.original.load(std::memory_order_relaxed))(std::forward<A>(arguments)...);
        const CallEnd end(*core);
        return static_cast<OwnedAround<Callable>*>(core)->callable(reinterpret_cast<Original>(core->original),
                                                                   std::forward<A>(arguments)...);
    }
};

}  // namespace detail

class TypedWrap;
template <class R, class... A, bool is_noexcept, class Callable>
Result<TypedWrap> wrap_typed(R (*function)(A...) noexcept(is_noexcept), Callable around,
                             AllowBreakpoint breakpoint = AllowBreakpoint::never);

// A wrapped function, with the callable. Move-only; whoever destroys it detaches.
class [[nodiscard]] TypedWrap {
public:
    TypedWrap() noexcept = default;
    TypedWrap(TypedWrap&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    TypedWrap& operator=(TypedWrap&& other) noexcept {
        if (this == &other) return *this;
        detach();
        core_ = std::exchange(other.core_, nullptr);
        return *this;
    }
    ~TypedWrap() { detach(); }

    // Afterwards no call enters the callable. Calls that are inside stay, for as long as they take; it does not wait for them.
    // The callable is destroyed before this returns if there are none, and no ReadSection was open here (or at the same time by
    // another thread that synchronize()s); otherwise by a later wrap_typed() or detach() of whatever, by anyone, once the last
    // has left, and a grace period is over.
    // Threads: any, also from inside the callable.  Blocks: as synchronize(); inside a ReadSection, or a handler of a probe, it
    // does not wait.  Not from signal handlers.
    void detach() noexcept {
        if (core_ != nullptr) detail::detach_wrap(*std::exchange(core_, nullptr), true);
    }
    // Without waiting: synchronize() does it once for many. Until then a call may enter the callable.
    void detach_nosync() noexcept {
        if (core_ != nullptr) detail::detach_wrap(*std::exchange(core_, nullptr), false);
    }
    explicit operator bool() const noexcept { return core_ != nullptr; }

    // How many calls have entered the callable: exact once none of them can.  Threads: any.
    std::uint64_t calls() const noexcept { return core_ == nullptr ? 0 : detail::wrap_calls(*core_); }

private:
    explicit TypedWrap(detail::WrapCore& core) noexcept : core_(&core) {}
    template <class R, class... A, bool is_noexcept, class Callable>
    friend Result<TypedWrap> wrap_typed(R (*)(A...) noexcept(is_noexcept), Callable, AllowBreakpoint);

    detail::WrapCore* core_ = nullptr;
};

// From now on callers of `function` call around(original, arguments...). Calls that have begun are not touched. What `around`
// throws its caller gets; of a noexcept function that terminates.
// Threads, blocking, ordering: as Probe::attach().
// Errors: as of a ReturnProbe (not_a_function, denied, inside_library; without a table text_not_writable) and of
// Probe::attach(); patched_place: it is wrapped, or probed; no_free_register: 6 words of integers and 8 floating-point numbers
// or more, in registers. `breakpoint`: as ProbeOptions has it; a trap at each call is seldom what a wrap is for. Throws:
// std::bad_alloc, what moving the callable throws; then nothing has changed.
template <class R, class... A, bool is_noexcept, class Callable>
Result<TypedWrap> wrap_typed(R (*function)(A...) noexcept(is_noexcept), Callable around, AllowBreakpoint breakpoint) {
    using Owned = detail::OwnedAround<Callable>;
    static const detail::WrapPlan asked = detail::Wrapper<Callable, is_noexcept, R, A...>::plan(AllowBreakpoint::never);
    detail::WrapPlan plan = asked;
    plan.breakpoint = breakpoint;
    auto owned = std::unique_ptr<Owned>(new Owned(std::move(around)));
    if (auto done = detail::attach_wrap(Address::of(function), plan, *owned); !done) return std::unexpected(done.error());
    return TypedWrap(*owned.release());
}

}  // namespace dynfunc
