// SPDX-License-Identifier: MIT
// Probes on functions whose signature is known: the handler gets the arguments, by reference, and no registers.
//
//     auto probe = dynfunc::probe_typed(&open_file, [](const char*& path, int& flags) { flags |= O_CLOEXEC; });
//
// What it assigns is what the function gets. It returns nothing, or an AfterHit. It may have captures; it is called in any
// number of threads at once, and destroyed when no thread can be inside it any more.
//
// The register of a changed argument stays changed behind the call. A caller in the same file may count on the function leaving it
// alone (gcc's -fipa-ra): of one's own functions whose arguments are to be changed, [[gnu::noipa]] says that it does not.
//
// Parameters are integers, pointers, references, enumerations, float and double, in registers or on the stack; functions with
// others, or with a variable number of arguments, are probed by registers (probe.hpp).
//
// With Needs::registers the callable is not to touch vector registers ([] [[gnu::target("general-regs-only")]] (int& x) {...}).
// Then it has no parameters of float and double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include <dynfunc/detail/arguments.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/probe.hpp>

namespace dynfunc {

namespace detail {

template <class A>
consteval bool is_in_vector_register() {
    static_assert(std::is_reference_v<A> || std::is_integral_v<A> || std::is_enum_v<A> || std::is_pointer_v<A> ||
                      std::is_same_v<A, float> || std::is_same_v<A, double>,
                  "a probe by signature passes integers, pointers, references, enumerations, float and double");
    static_assert(std::is_reference_v<A> || sizeof(A) <= sizeof(std::uint64_t), "an argument of one register");
    return std::is_floating_point_v<A>;
}

using AnyWord [[gnu::may_alias]] = std::uint32_t;

struct ArgumentSlot {
    enum class In : std::uint8_t { integer_register, vector_register, stack };
    In in = In::stack;
    unsigned number = 0;
};

// In the order of the calling convention: registers of its kind first, then words of the stack.
template <bool hides_result, class... A>
consteval ArgumentSlot argument_slot(std::size_t wanted) {
    using enum ArgumentSlot::In;
    constexpr bool vector[] = {is_in_vector_register<A>()...};
    unsigned integers = hides_result ? 1 : 0, vectors = 0, words = 0;
    for (std::size_t i = 0;; ++i) {
        ArgumentSlot slot;
        if (vector[i] && vectors < Registers::vector_arguments)
            slot = {vector_register, vectors++};
        else if (!vector[i] && integers < Registers::integer_arguments)
            slot = {integer_register, integers++};
        else
            slot = {stack, words++};
        if (i == wanted) return slot;
    }
}

// `hides_result`: is_result_hidden(), which is known when the program runs.
template <class Callable, bool hides_result, class... A>
struct TypedHandler {
    static constexpr bool has_vectors = (is_in_vector_register<A>() || ... || false);

    template <std::size_t i>
    using Argument = std::tuple_element_t<i, std::tuple<A...>>;

// Twice the same: what the compiler may use vector registers in, and what it may not, down to the callable.
#define DYNFUNC_DETAIL_TYPED_HANDLER(name, attribute)                                                                        \
    template <std::size_t i>                                                                                                 \
    attribute static std::remove_reference_t<Argument<i>>& name##_argument(Registers& registers) noexcept {                  \
        constexpr ArgumentSlot slot = argument_slot<hides_result, A...>(i);                                                  \
        auto* at = reinterpret_cast<std::byte*>(&registers);                                                                 \
        if constexpr (slot.in == ArgumentSlot::In::integer_register)                                                         \
            at += std::integral_constant<std::size_t, Registers::integer_at(slot.number)>::value;                            \
        else if constexpr (slot.in == ArgumentSlot::In::vector_register)                                                     \
            at = registers.vectors + slot.number * registers.vector_bytes;                                                   \
        else                                                                                                                 \
            at = *reinterpret_cast<std::byte**>(at +                                                                         \
                                                std::integral_constant<std::size_t, Registers::stack_pointer_at()>::value) + \
                 Registers::stack_arguments_at + slot.number * sizeof(std::uint64_t);                                        \
        if constexpr (std::is_reference_v<Argument<i>>)                                                                      \
            return **reinterpret_cast<std::remove_reference_t<Argument<i>>**>(at);                                           \
        else                                                                                                                 \
            return *reinterpret_cast<Argument<i>*>(at);                                                                      \
    }                                                                                                                        \
    /* Who is called may rely on it that the caller has made 32 bits of what is narrower (clang does). */                    \
    template <std::size_t i>                                                                                                 \
    attribute static void name##_extend(Registers& registers) noexcept {                                                     \
        using T = std::remove_reference_t<Argument<i>>;                                                                      \
        if constexpr (!std::is_reference_v<Argument<i>> && (std::is_integral_v<T> || std::is_enum_v<T>)&&sizeof(T) < 4) {    \
            T& value = name##_argument<i>(registers);                                                                        \
            *reinterpret_cast<AnyWord*>(&value) = static_cast<std::uint32_t>(value);                                         \
        }                                                                                                                    \
    }                                                                                                                        \
    template <std::size_t... i>                                                                                              \
    attribute static AfterHit name##_call(ProbeHit& hit, std::index_sequence<i...>) {                                        \
        Callable& callable = *static_cast<Callable*>(hit.data);                                                              \
        AfterHit after = AfterHit::keep;                                                                                     \
        if constexpr (std::is_void_v<decltype(callable(name##_argument<i>(hit.registers)...))>)                              \
            callable(name##_argument<i>(hit.registers)...);                                                                  \
        else                                                                                                                 \
            after = callable(name##_argument<i>(hit.registers)...);                                                          \
        (name##_extend<i>(hit.registers), ...);                                                                              \
        return after;                                                                                                        \
    }                                                                                                                        \
    attribute static AfterHit name(ProbeHit& hit) { return name##_call(hit, std::index_sequence_for<A...>()); }

    DYNFUNC_DETAIL_TYPED_HANDLER(any, )
    DYNFUNC_DETAIL_TYPED_HANDLER(without_vectors, DYNFUNC_DETAIL_NO_VECTORS)
#undef DYNFUNC_DETAIL_TYPED_HANDLER
};

template <class Callable>
struct OwnedCallable : Retired {
    explicit OwnedCallable(Callable&& from) : callable(std::move(from)) {
        reclaim = [](Retired& item) noexcept { delete static_cast<OwnedCallable*>(&item); };
    }
    Callable callable;
};

// Detaches, and has `owned` reclaimed when no thread is inside: before it returns, but for inside of a section.
DYNFUNC_EXPORT void detach_with(Probe& probe, Retired& owned) noexcept;

}  // namespace detail

// A Probe with the callable that it calls.
class [[nodiscard]] TypedProbe {
public:
    TypedProbe() noexcept = default;
    TypedProbe(TypedProbe&& other) noexcept : probe_(std::move(other.probe_)), owned_(std::exchange(other.owned_, nullptr)) {}
    TypedProbe& operator=(TypedProbe&& other) noexcept {
        if (this == &other) return *this;
        detach();
        probe_ = std::move(other.probe_);
        owned_ = std::exchange(other.owned_, nullptr);
        return *this;
    }
    ~TypedProbe() { detach(); }

    // As Probe::detach().
    void detach() noexcept {
        if (owned_ != nullptr) detail::detach_with(probe_, *std::exchange(owned_, nullptr));
    }
    // As Probe::detach_nosync(): the callable is destroyed by a later synchronize().
    void detach_nosync() noexcept {
        if (owned_ == nullptr) return;
        probe_.detach_nosync();
        retire(*std::exchange(owned_, nullptr));
    }
    // As a Probe's.
    Result<void> enable() { return probe_.enable(); }
    void disable() noexcept { probe_.disable(); }
    // For its counts and what is known of the place.
    const Probe& probe() const noexcept { return probe_; }
    explicit operator bool() const noexcept { return static_cast<bool>(probe_); }

private:
    TypedProbe(Probe&& probe, Retired& owned) noexcept : probe_(std::move(probe)), owned_(&owned) {}
    template <class Callable, class R, class... A>
    friend Result<TypedProbe> attach_typed(Address, R (*)(A...), Callable, ProbeOptions);

    Probe probe_;
    Retired* owned_ = nullptr;
};

// On a place where a function of this signature begins. Of the options, on_hit and data are not the caller's.
// Errors: as Probe::attach().  Throws: std::bad_alloc, what moving the callable throws.
template <class Callable, class R, class... A>
Result<TypedProbe> attach_typed(Address at, R (*)(A...), Callable callable, ProbeOptions options) {
    using Handler = detail::TypedHandler<Callable, false, A...>;
    using HidingHandler = detail::TypedHandler<Callable, std::is_class_v<R> || std::is_union_v<R>, A...>;
    const bool is_hidden = detail::is_result_hidden<R>();
    auto* const owned = new detail::OwnedCallable<Callable>(std::move(callable));
    options.data = &owned->callable;
    // A vector register that is not kept cannot be shown.
    if (Handler::has_vectors) options.needs = Needs::vectors;
    if (options.needs == Needs::vectors)
        options.on_hit = is_hidden ? &HidingHandler::any : &Handler::any;
    else
        options.on_hit = is_hidden ? &HidingHandler::without_vectors : &Handler::without_vectors;
    auto probe = Probe::attach(at, options);
    if (!probe) {
        delete owned;
        return std::unexpected(probe.error());
    }
    return TypedProbe(std::move(*probe), *owned);
}

template <class R, class... A, class Callable>
Result<TypedProbe> probe_typed(R (*function)(A...), Callable callable, const ProbeOptions& options = {}) {
    return attach_typed(Address::of(function), function, std::move(callable), options);
}
template <class R, class... A, class Callable>
Result<TypedProbe> probe_typed(R (*function)(A...) noexcept, Callable callable, const ProbeOptions& options = {}) {
    return attach_typed(Address::of(function), static_cast<R (*)(A...)>(function), std::move(callable), options);
}

}  // namespace dynfunc
