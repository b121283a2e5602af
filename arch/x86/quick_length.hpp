// SPDX-License-Identifier: MIT
// How long an instruction is, for the common ones. Whoever
// reads all of an object's code asks here first, and the decoder (decoded.hpp) where the answer is 0. What no processor runs
// may be given a length, too.
//
//     [prefixes] [REX] [0f] opcode [ModRM [SIB] [displacement]] [immediate]
//     VEX or EVEX           opcode  ModRM [SIB] [displacement]  [immediate]
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, appendix A.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dynfunc::arch::x86 {

struct QuickLength {
    std::uint8_t size = 0;      // 0: ask the decoder
    std::uint8_t distance = 0;  // of a direct branch: how many bytes of it end the instruction
};

namespace quick {

inline constexpr std::uint8_t known = 1, has_modrm = 2, immediate_8 = 4, immediate_32 = 8, branch = 16;

using Map = std::array<std::uint8_t, 256>;

constexpr void put(Map& map, unsigned first, unsigned last, unsigned what) noexcept {
    for (unsigned opcode = first; opcode <= last; ++opcode) map[opcode] = static_cast<std::uint8_t>(known | what);
}

// Left out: what is rare, or depends on the width of addresses.
constexpr Map default_map() noexcept {
    Map map{};
    for (unsigned row = 0x00; row < 0x40; row += 8) {
        put(map, row, row + 3, has_modrm);
        put(map, row + 4, row + 4, immediate_8);
        put(map, row + 5, row + 5, immediate_32);
    }
    put(map, 0x50, 0x5f, 0);
    put(map, 0x63, 0x63, has_modrm);
    put(map, 0x68, 0x68, immediate_32);
    put(map, 0x69, 0x69, has_modrm | immediate_32);
    put(map, 0x6a, 0x6a, immediate_8);
    put(map, 0x6b, 0x6b, has_modrm | immediate_8);
    put(map, 0x70, 0x7f, branch | immediate_8);
    put(map, 0x80, 0x80, has_modrm | immediate_8);
    put(map, 0x81, 0x81, has_modrm | immediate_32);
    put(map, 0x83, 0x83, has_modrm | immediate_8);
    put(map, 0x84, 0x8b, has_modrm);
    put(map, 0x8d, 0x8d, has_modrm);
    put(map, 0x90, 0x90, 0);
    put(map, 0x98, 0x99, 0);
    put(map, 0xa8, 0xa8, immediate_8);
    put(map, 0xa9, 0xa9, immediate_32);
    put(map, 0xb0, 0xb7, immediate_8);
    put(map, 0xb8, 0xbf, immediate_32);
    put(map, 0xc0, 0xc1, has_modrm | immediate_8);
    put(map, 0xc3, 0xc3, 0);
    put(map, 0xc6, 0xc6, has_modrm | immediate_8);
    put(map, 0xc7, 0xc7, has_modrm | immediate_32);
    put(map, 0xc9, 0xc9, 0);
    put(map, 0xcc, 0xcc, 0);
    put(map, 0xd0, 0xd3, has_modrm);
    put(map, 0xd8, 0xdf, has_modrm);
    put(map, 0xe8, 0xe9, branch | immediate_32);
    put(map, 0xeb, 0xeb, branch | immediate_8);
    put(map, 0xf6, 0xf7, has_modrm);
    put(map, 0xff, 0xff, has_modrm);
    return map;
}

constexpr Map map_0f() noexcept {
    Map map{};
    put(map, 0x05, 0x05, 0);
    put(map, 0x0b, 0x0b, 0);
    put(map, 0x10, 0x1f, has_modrm);
    put(map, 0x28, 0x2f, has_modrm);
    put(map, 0x40, 0x6f, has_modrm);
    put(map, 0x70, 0x73, has_modrm | immediate_8);
    put(map, 0x74, 0x76, has_modrm);
    put(map, 0x77, 0x77, 0);
    put(map, 0x7e, 0x7f, has_modrm);
    put(map, 0x80, 0x8f, branch | immediate_32);
    put(map, 0x90, 0x9f, has_modrm);
    put(map, 0xa2, 0xa2, 0);
    put(map, 0xa3, 0xa3, has_modrm);
    put(map, 0xa4, 0xa4, has_modrm | immediate_8);
    put(map, 0xa5, 0xa5, has_modrm);
    put(map, 0xab, 0xab, has_modrm);
    put(map, 0xac, 0xac, has_modrm | immediate_8);
    put(map, 0xad, 0xad, has_modrm);
    put(map, 0xaf, 0xb1, has_modrm);
    put(map, 0xb3, 0xb3, has_modrm);
    put(map, 0xb6, 0xb7, has_modrm);
    put(map, 0xba, 0xba, has_modrm | immediate_8);
    put(map, 0xbb, 0xc1, has_modrm);
    put(map, 0xc2, 0xc2, has_modrm | immediate_8);
    put(map, 0xc6, 0xc6, has_modrm | immediate_8);
    put(map, 0xc8, 0xcf, 0);
    put(map, 0xd1, 0xfe, has_modrm);
    return map;
}

inline constexpr Map of_default = default_map(), of_0f = map_0f();

// ModRM and what it says follows.
inline std::size_t modrm_bytes(const std::uint8_t* at) noexcept {
    const unsigned mod = *at >> 6, rm = *at & 7;
    if (mod == 3) return 1;
    const bool has_sib = rm == 4;
    const std::size_t size = has_sib ? 2 : 1;
    if (mod == 0) return (has_sib ? at[1] & 7 : rm) == 5 ? size + 4 : size;
    return mod == 1 ? size + 1 : size + 4;
}

constexpr bool is_prefix(std::uint8_t byte) noexcept {
    switch (byte) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0x66:
        case 0xf0:
        case 0xf2:
        case 0xf3:
            return true;
        default:
            return false;
    }
}

// Of an opcode that VEX or EVEX puts into one of the maps 0f, 0f 38 and 0f 3a.
inline std::uint8_t of_vector_map(unsigned map, std::uint8_t opcode) noexcept {
    if (map == 1) return (of_0f[opcode] & branch) != 0 ? std::uint8_t{0} : of_0f[opcode];
    if (map == 2) return known | has_modrm;
    return map == 3 ? known | has_modrm | immediate_8 : 0;
}

}  // namespace quick

// Reads up to `quick_length_reads` bytes, whatever stands there.
inline constexpr std::size_t quick_length_reads = 15;
inline QuickLength quick_length(const std::byte* code) noexcept {
    using namespace quick;
    constexpr std::uint8_t wide = 8;
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(code);
    const std::uint8_t* at = begin;
    bool narrow = false;
    for (; is_prefix(*at); ++at) {
        constexpr std::ptrdiff_t most_prefixes = 4;
        if (at - begin == most_prefixes) return {};
        narrow = narrow || *at == 0x66;
    }
    const bool has_prefix = at != begin;
    const std::uint8_t rex = (*at & 0xf0) == 0x40 ? *at++ : 0;
    std::uint8_t opcode = *at++, what;
    std::size_t immediate = 0;
    switch (opcode) {
        case 0x0f:
            opcode = *at++;
            what = of_0f[opcode];
            break;
        case 0x62:
        case 0xc4:
        case 0xc5: {
            if (has_prefix || rex != 0) return {};
            const unsigned map = opcode == 0xc5 ? 1 : *at & (opcode == 0x62 ? 0x07 : 0x1f);
            at += opcode == 0x62 ? 3 : opcode == 0xc4 ? 2 : 1;
            what = of_vector_map(map, *at++);
            break;
        }
        default:
            what = of_default[opcode];
            // xbegin and indirect jumps.
            if ((opcode == 0xc7 && *at == 0xf8) || (opcode == 0xff && (*at >> 3 & 7) == 4)) return {};
            if ((opcode & 0xfe) == 0xf6 && (*at >> 3 & 7) < 2) what |= opcode == 0xf6 ? immediate_8 : immediate_32;
            if (narrow && (what & immediate_32) != 0) return {};
            if ((opcode & 0xf8) == 0xb8 && (rex & wide) != 0) immediate = 4;
            break;
    }
    if (what == 0 || (has_prefix && (what & branch) != 0)) return {};
    if ((what & has_modrm) != 0) at += modrm_bytes(at);
    if ((what & immediate_32) != 0) immediate += 4;
    if ((what & immediate_8) != 0) immediate += 1;
    const std::size_t size = static_cast<std::size_t>(at - begin) + immediate;
    constexpr std::size_t most_bytes = 15;
    if (size > most_bytes) return {};
    return {.size = static_cast<std::uint8_t>(size),
            .distance = (what & branch) != 0 ? static_cast<std::uint8_t>(immediate) : std::uint8_t{0}};
}

}  // namespace dynfunc::arch::x86
