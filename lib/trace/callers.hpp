// SPDX-License-Identifier: MIT
// Where a call comes from, by its return address.
#pragma once

#include <dynfunc/registers.hpp>

#include <cstddef>
#include <cstdint>

#include "at_hit.hpp"

namespace dynfunc::trace {

class Callers {
public:
    // Whether it is code that unwinders know. Other code walks the stack by knowing its own frames, as JavaScript's engines do,
    // and does not know places of return.
    DYNFUNC_IN_HIT static bool has_unwind_information(std::uint64_t return_address, Registers& registers) noexcept {
        constexpr std::uint64_t yes = std::uint64_t{1} << 63;
        std::uint64_t& place = known_[(return_address * 0x9e37'79b9'7f4a'7c15) >> (64 - known_bits)];
        const std::uint64_t known = __atomic_load_n(&place, __ATOMIC_RELAXED);
        if (known == (return_address | yes)) return true;
        if (known == return_address) return false;
        const bool answer = find_unwind_information(return_address, registers);
        __atomic_store_n(&place, answer ? return_address | yes : return_address, __ATOMIC_RELAXED);
        return answer;
    }
    // Whether it is one of the library's places of return: the caller has ended in a jump.
    DYNFUNC_AT_HIT static bool is_place_of_return(std::uint64_t return_address, Registers& registers) noexcept;
    // What is loaded has changed.
    static void forget() noexcept;

private:
    static constexpr unsigned known_bits = 12;

    DYNFUNC_AT_HIT static bool find_unwind_information(std::uint64_t return_address, Registers& registers) noexcept;

    // Answers that were given: the address, and in the highest bit the answer. Atomic.
    static std::uint64_t known_[std::size_t{1} << known_bits];
};

}  // namespace dynfunc::trace
