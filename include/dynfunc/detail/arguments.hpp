// SPDX-License-Identifier: MIT
// Where the calling convention passes the arguments of a signature, so that generated code can hand them on to several callees.
//
// The compiler is asked, instead of a table of rules: a function with the signature's parameters and more behind them is called
// as if it took numbers only, 0, 1, 2, ..., which fill the registers first and then the stack, word by word. The number that it
// finds in its last parameter tells where that one is passed, and so how much those before it take up. Nothing else is read, so
// the parameters may be of any type that is passed by copying its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

// Places are counted from 0 through the registers of a kind and on through the 8-byte words of the stack.
struct ArgumentPlaces {
    std::uint16_t data;    // of a pointer behind the parameters
    std::uint16_t behind;  // of the last of `spread_words` pointers behind them: always on the stack
    std::uint16_t vector;  // of a double behind them

    friend bool operator==(const ArgumentPlaces&, const ArgumentPlaces&) = default;
};

inline constexpr std::size_t spread_words = 16;         // more than a convention has registers
inline constexpr std::size_t most_argument_words = 64;  // on the stack, of the parameters of a signature, with what aligns them
inline constexpr std::size_t numbered_places = most_argument_words + 2 * spread_words;

template <class Number, std::size_t>
using AnyNumber = Number;

template <class Number, std::size_t... i>
Number call_with_numbers(void* function, std::index_sequence<i...>) noexcept {
    asm volatile("" : "+r"(function));  // the compiler must not see which function this is
    return reinterpret_cast<Number (*)(AnyNumber<Number, i>...)>(function)(static_cast<Number>(i)...);
}

template <class Indices, class... A>
struct ArgumentProbe;

template <std::size_t... i, class... A>
struct DYNFUNC_HIDDEN ArgumentProbe<std::index_sequence<i...>, A...> {
    static std::uintptr_t data(A..., std::uintptr_t last) noexcept { return last; }
    static std::uintptr_t behind(A..., AnyNumber<std::uintptr_t, i>..., std::uintptr_t last) noexcept { return last; }
    static double vector(A..., double last) noexcept { return last; }
};

// Threads: any.
template <class... A>
ArgumentPlaces argument_places() noexcept {
    using Probe = ArgumentProbe<std::make_index_sequence<spread_words - 1>, A...>;
    constexpr auto numbers = std::make_index_sequence<numbered_places>();
    const auto place = [&]<class Number, class F>(Number, F* function) {
        return static_cast<std::uint16_t>(call_with_numbers<Number>(reinterpret_cast<void*>(function), numbers));
    };
    return {.data = place(std::uintptr_t{}, &Probe::data),
            .behind = place(std::uintptr_t{}, &Probe::behind),
            .vector = place(double{}, &Probe::vector)};
}

inline std::byte* mark_first(std::byte* at) noexcept {
    *at = std::byte{1};
    return at;
}

// Whether the caller passes the address of the result as if it were the first argument. The compiler is asked here too: what is
// called so marks whatever its first argument points to. The result is nobody's.
template <class R>
bool is_result_hidden() noexcept {
    if constexpr (std::is_class_v<R> || std::is_union_v<R>) {
        struct Room {
            alignas(R) std::byte of_result[sizeof(R)];
            std::byte named;
        } room;
        room.named = std::byte{0};
        void* function = reinterpret_cast<void*>(&mark_first);
        void* result = room.of_result;
        asm volatile("" : "+r"(function), "+r"(result) : : "memory");  // the compiler must not see what this is
        ::new (result) R(reinterpret_cast<R (*)(std::byte*)>(function)(&room.named));
        asm volatile("" : : "r"(&room) : "memory");
        return room.named == std::byte{0};
    } else {
        return false;
    }
}

}  // namespace dynfunc::detail
