// SPDX-License-Identifier: MIT
// Where there are no probes: nobody ever sees one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dynfunc {

struct Registers {
    std::uint64_t word;
    std::byte* vectors;
    std::uint64_t vector_bytes;

    std::uint64_t& integer(unsigned) noexcept { return word; }
    template <class T = double>
    T& floating(unsigned) noexcept {
        return *reinterpret_cast<T*>(vectors);
    }
    std::uint64_t& result(unsigned = 0) noexcept { return word; }
    std::uint64_t& stack_word(std::size_t) noexcept { return word; }
    std::uint64_t& instruction_pointer() noexcept { return word; }
    std::uint64_t& stack_pointer() noexcept { return word; }
    std::uint64_t return_address() const noexcept { return word; }
    void return_now(std::uint64_t) noexcept {}

    static constexpr unsigned integer_arguments = 0, vector_arguments = 0;
    static constexpr std::size_t integer_at(unsigned) noexcept { return 0; }
    static constexpr std::size_t stack_pointer_at() noexcept { return 0; }
    static constexpr std::size_t stack_arguments_at = 0;
};

}  // namespace dynfunc
