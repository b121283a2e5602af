// SPDX-License-Identifier: MIT
// Registers of arm64 (AAPCS64).
#pragma once

#include <cstddef>
#include <cstdint>

namespace dynfunc {

struct Registers {
    std::uint64_t x[31];  // x[29] is the frame pointer, x[30] the link register
    std::uint64_t sp, pc, nzcv;
    std::byte* vectors;  // register number i is the first `vector_bytes` bytes at `vectors` + i * vector_bytes
    std::uint64_t vector_bytes;

    // The first eight of each kind.
    std::uint64_t& integer(unsigned i) noexcept { return x[i]; }
    template <class T = double>
    T& floating(unsigned i) noexcept {
        return *reinterpret_cast<T*>(vectors + i * vector_bytes);
    }
    // The first two words of what a function returns in integer registers.
    std::uint64_t& result(unsigned i = 0) noexcept { return x[i]; }
    std::uint64_t& stack_word(std::size_t i) noexcept { return reinterpret_cast<std::uint64_t*>(sp)[i]; }
    std::uint64_t& instruction_pointer() noexcept { return pc; }
    std::uint64_t& stack_pointer() noexcept { return sp; }
    std::uint64_t return_address() const noexcept { return x[30]; }
    void return_now(std::uint64_t value) noexcept {
        x[0] = value;
        pc = x[30];
    }

    // For typed_probe.hpp: how many arguments registers carry, and where in here, and on the stack, they are.
    static constexpr unsigned integer_arguments = 8, vector_arguments = 8;
    static constexpr std::size_t integer_at(unsigned i) noexcept { return i * sizeof(std::uint64_t); }
    static constexpr std::size_t stack_pointer_at() noexcept { return 31 * sizeof(std::uint64_t); }
    static constexpr std::size_t stack_arguments_at = 0;
};

}  // namespace dynfunc
