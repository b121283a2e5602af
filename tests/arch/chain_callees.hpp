// SPDX-License-Identifier: MIT
// Functions that note what they are called with and then destroy it: whatever a callee owns, it changes, so that the next one
// gets its arguments from the chain or not at all.
#pragma once

#include <dynfunc/address.hpp>
#include <dynfunc/detail/arguments.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dynfunc::arch::test {

__extension__ using Wide = unsigned __int128;

struct Empty {
    static Empty make(std::uint64_t) { return {}; }
    bool operator==(const Empty&) const = default;
};
struct Point {
    double x, y;
    static Point make(std::uint64_t n) { return {static_cast<double>(n) + 0.25, -static_cast<double>(n)}; }
    bool operator==(const Point&) const = default;
};
struct Mixed {
    float f;
    int i;
    double d;
    static Mixed make(std::uint64_t n) { return {static_cast<float>(n), static_cast<int>(n) * 3, static_cast<double>(n) / 8}; }
    bool operator==(const Mixed&) const = default;
};
struct Triple {
    char c[3];
    static Triple make(std::uint64_t n) { return {{static_cast<char>(n), static_cast<char>(n + 1), static_cast<char>(n + 2)}}; }
    bool operator==(const Triple&) const = default;
};
struct Forty {
    std::uint64_t word[5];
    static Forty make(std::uint64_t n) { return {{n, n + 1, ~n, n * n, n << 32}}; }
    bool operator==(const Forty&) const = default;
};

// Value number `n` of a type; the next ones differ from it. Of a reference: the same object each time.
template <class T>
T value(std::uint64_t n) {
    if constexpr (std::is_reference_v<T>) {
        static std::array<std::remove_cvref_t<T>, 128> objects{};
        return objects[n];
    } else if constexpr (std::is_same_v<T, bool>) {
        return n % 2 != 0;
    } else if constexpr (std::is_same_v<T, Wide>) {
        return Wide{value<std::uint64_t>(n)} << 64 | value<std::uint64_t>(n + 100);
    } else if constexpr (std::is_integral_v<T>) {
        return static_cast<T>(0x9e37'79b9'7f4a'7c15 * (n + 1));
    } else if constexpr (std::is_floating_point_v<T>) {
        return static_cast<T>(n) + static_cast<T>(0.5);
    } else if constexpr (std::is_pointer_v<T>) {
        return Address{value<std::uintptr_t>(n)}.as<T>();
    } else if constexpr (std::is_same_v<T, std::string_view>) {
        return std::string_view("the quick brown fox jumps over the lazy dog").substr(n % 32, n % 7 + 1);
    } else {
        return T::make(n);
    }
}

struct Visit {
    std::size_t callee;
    bool right;  // all arguments are those that the chain was called with
    void* data;

    friend bool operator==(const Visit&, const Visit&) = default;
};
inline std::vector<Visit> visits;
inline constexpr int nobody = -1;
inline int visits_before_throw = nobody;

template <class A>
bool is_value(const std::remove_reference_t<A>& is, std::uint64_t n) {
    if constexpr (std::is_reference_v<A>)
        return &is == &value<A>(n);
    else
        return is == value<A>(n);
}

template <class... A>
[[gnu::noinline]] void note(std::size_t callee, void* data, const std::remove_reference_t<A>&... a) {
    const bool right = [&]<std::size_t... i>(std::index_sequence<i...>) { return (true && ... && is_value<A>(a, i)); }
    (std::index_sequence_for<A...>());
    visits.push_back({callee, right, data});
    if (visits_before_throw-- == 0) throw callee;
}

// Leaves numbers of its own in every register that carries arguments. Called through `take`, of which no compiler can know that
// they are not used.
using U = std::uint64_t;
inline void take_arguments(U, U, U, U, U, U, U, U, double, double, double, double, double, double, double, double) {}
inline void (*volatile take)(U, U, U, U, U, U, U, U, double, double, double, double, double, double, double,
                             double) = &take_arguments;

// arm64 passes what is larger than two words by the address of a copy, which all callees then have in common.
template <class A>
bool is_owned() {
    return !std::is_reference_v<A> && (sizeof(A) <= 16 || detail::argument_places<Forty>().data == 0);
}

template <class A>
void spoil(std::remove_reference_t<A>& a) {
    if constexpr (!std::is_reference_v<A>) {
        if (!is_owned<A>()) return;
        a = value<A>(77);
        asm volatile("" ::"r"(&a) : "memory");
    }
}

template <std::size_t number, class... A>
struct Callee {
    static void plain(A... a) {
        note<A...>(number, nullptr, a...);
        (spoil<A>(a), ...);
        take(91, 92, 93, 94, 95, 96, 97, 98, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6, 9.7, 9.8);
    }
    static void with_data(A... a, void* data) {
        note<A...>(number, data, a...);
        (spoil<A>(a), ...);
        spoil<void*>(data);
        take(81, 82, 83, 84, 85, 86, 87, 88, 8.1, 8.2, 8.3, 8.4, 8.5, 8.6, 8.7, 8.8);
    }
};

// As many callees as differ; a longer chain calls them again.
inline constexpr std::size_t callee_count = 3;

// A signature, with everything that depends on it.
struct Signature {
    std::string_view name;
    detail::ArgumentPlaces places;
    std::array<Address, callee_count> plain, with_data;
    void (*call)(Address code);  // with the values that the callees expect
};

template <class... A>
void call_with_values(Address code) {
    [&]<std::size_t... i>(std::index_sequence<i...>) { code.as<void (*)(A...)>()(value<A>(i)...); }
    (std::index_sequence_for<A...>());
}

template <class... A>
Signature signature_of() {
    return {.name = __PRETTY_FUNCTION__,
            .places = detail::argument_places<A...>(),
            .plain = {Address::of(&Callee<0, A...>::plain), Address::of(&Callee<1, A...>::plain),
                      Address::of(&Callee<2, A...>::plain)},
            .with_data = {Address::of(&Callee<0, A...>::with_data), Address::of(&Callee<1, A...>::with_data),
                          Address::of(&Callee<2, A...>::with_data)},
            .call = &call_with_values<A...>};
}

}  // namespace dynfunc::arch::test
