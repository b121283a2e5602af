// SPDX-License-Identifier: MIT
// A place in the address space of this process.
//
//     Address at = Address::of(&crc_portable);
//     std::printf("%#zx\n", at.value);
//
// One type for code and data, so that an address is never mistaken for a size, an index or a pointer that may be followed.
#pragma once

#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace dynfunc {

struct Address {
    std::uintptr_t value = 0;

    // The address of an object or of a function. Not constexpr: the language gives addresses no numbers before run time.
    template <class T>
    static Address of(T* pointer) noexcept {
        return Address{std::bit_cast<std::uintptr_t>(pointer)};
    }

    // The object or function that stands here, for code that knows what it is.
    template <class T>
    T as() const noexcept {
        static_assert(std::is_pointer_v<T>);
        return std::bit_cast<T>(value);
    }

    explicit constexpr operator bool() const noexcept { return value != 0; }
    friend constexpr auto operator<=>(Address, Address) noexcept = default;
    friend constexpr Address operator+(Address a, std::ptrdiff_t bytes) noexcept {
        return Address{a.value + static_cast<std::uintptr_t>(bytes)};
    }
    friend constexpr Address operator-(Address a, std::ptrdiff_t bytes) noexcept {
        return Address{a.value - static_cast<std::uintptr_t>(bytes)};
    }
    friend constexpr std::ptrdiff_t operator-(Address a, Address b) noexcept {
        return static_cast<std::ptrdiff_t>(a.value - b.value);
    }
};

// The bytes from `begin` up to, not including, `end`.
struct AddressRange {
    Address begin, end;

    constexpr bool contains(Address a) const noexcept { return begin <= a && a < end; }
    constexpr std::size_t size() const noexcept { return end.value - begin.value; }
};

}  // namespace dynfunc
