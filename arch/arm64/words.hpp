// SPDX-License-Identifier: MIT
// Instructions of arm64 as the words that they are, little-endian also where data is not.
#pragma once

#include "code_writer.hpp"

namespace dynfunc::arch::arm64 {

inline constexpr std::uint8_t word_bytes = 4;

inline constexpr std::uint32_t b = 0x1400'0000, nop = 0xd503'201f, ret = 0xd65f'03c0;
inline constexpr std::uint32_t trap = 0xd420'0000, br = 0xd61f'0000, br_x16 = br | 16 << 5;  // brk #0
inline constexpr std::uint32_t movz = 0xd280'0000, movk = 0xf280'0000;

constexpr std::uint32_t word_at(std::span<const std::byte> code, std::size_t index) noexcept {
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < word_bytes; ++i)
        word |= std::to_integer<std::uint32_t>(code[index * word_bytes + i]) << (8 * i);
    return word;
}

// ldr xt, literal: so many bytes ahead.
constexpr std::uint32_t load_ahead(std::uint32_t reg, std::size_t bytes) noexcept {
    return 0x5800'0000 | static_cast<std::uint32_t>(bytes / word_bytes) << 5 | reg;
}

// movz for the first 16 bits that are not zero, movk for each of the others.
inline void put_constant(CodeWriter& code, std::uint32_t reg, std::uint64_t value) noexcept {
    std::uint32_t opcode = movz;
    for (std::uint32_t i = 0; i < 4; ++i) {
        const auto part = static_cast<std::uint32_t>(value >> (16 * i) & 0xffff);
        if (part == 0) continue;
        code.put(opcode | i << 21 | part << 5 | reg);
        opcode = movk;
    }
    if (opcode == movz) code.put(movz | reg);
}

}  // namespace dynfunc::arch::arm64
