// SPDX-License-Identifier: MIT
// Which instructions of arm64 mean something else at another address, and how.
#pragma once

#include "arm64/words.hpp"

namespace dynfunc::arch::arm64 {

enum class Form : std::uint8_t {
    same,         // means the same anywhere
    branch,       // b
    call,         // bl
    conditional,  // b.cond, bc.cond, cbz, cbnz, tbz, tbnz: the same with another distance
    address,      // adr
    page,         // adrp
    load,         // ldr, ldrsw, prfm of a literal
    pinned,       // means something only where it stands
};

// The form of the words whose bits under the mask are those, and where its distance stands, in words (adr, adrp: in bytes and
// pages, of which the two lowest bits stand in 30:29).
struct PcRelative {
    std::uint32_t mask, value;
    Form form;
    std::uint8_t low = 0, bits = 0;
};

inline constexpr PcRelative pc_relative[] = {
    {0xfc00'0000, 0x1400'0000, Form::branch, 0, 26},
    {0xfc00'0000, 0x9400'0000, Form::call, 0, 26},
    {0xff00'0000, 0x5400'0000, Form::conditional, 5, 19},  // b.cond, bc.cond
    {0x7e00'0000, 0x3400'0000, Form::conditional, 5, 19},  // cbz, cbnz
    {0x7e00'0000, 0x3600'0000, Form::conditional, 5, 14},  // tbz, tbnz
    {0x9f00'0000, 0x1000'0000, Form::address, 5, 19},
    {0x9f00'0000, 0x9000'0000, Form::page, 5, 19},
    {0xbb00'0000, 0x1800'0000, Form::load, 5, 19},  // ldr w, x, s, d
    {0xfb00'0000, 0x9800'0000, Form::load, 5, 19},  // ldrsw, ldr q
    {0xff00'0000, 0xd800'0000, Form::load, 5, 19},  // prfm
    // Armv9.6: compare and branch in one; no processor has it yet.
    {0x7e00'0000, 0x7400'0000, Form::pinned},
    // Armv9.5: the return address is signed with the address of the instruction that signs it.
    {0xffff'd3ff, 0xdac1'83fe, Form::pinned},  // paciasppc, pacibsppc, pacnbiasppc, pacnbibsppc
    {0xffc0'001f, 0xf380'001f, Form::pinned},  // autiasppc, autibsppc
    {0xffc0'001f, 0x5500'001f, Form::pinned},  // retaasppc, retabsppc
    // Prologue, main part and epilogue of a copy in memory follow one another: the kernel starts the three again by address.
    {0x3b20'0c00, 0x1900'0400, Form::pinned},
};

// What changes the instruction behind it, and stays before it: movprfx, also with a predicate; pacm.
constexpr bool is_prefix(std::uint32_t word) noexcept {
    return (word & 0xffff'fc00) == 0x0420'bc00 || (word & 0xff3e'e000) == 0x0410'2000 || word == 0xd503'24ff;
}

constexpr PcRelative pc_relative_form(std::uint32_t word) noexcept {
    for (const PcRelative& each : pc_relative)
        if ((word & each.mask) == each.value) return each;
    return {0, 0, is_prefix(word) ? Form::pinned : Form::same};
}

// The number that stands in these bits, with its sign.
constexpr std::int64_t signed_field(std::uint32_t word, unsigned low, unsigned bits) noexcept {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(word) << (64 - low - bits)) >> (64 - bits);
}

// What the instruction at `at` refers to: where it leads, what it loads, what it computes. Null: its form has no distance.
constexpr Address refers_to(const PcRelative& form, std::uint32_t word, Address at) noexcept {
    if (form.bits == 0) return {};
    constexpr std::int64_t page_bytes = 4096;
    const std::int64_t distance = signed_field(word, form.low, form.bits);
    const std::int64_t finer = distance * 4 + (word >> 29 & 3);
    if (form.form == Form::address) return at + static_cast<std::ptrdiff_t>(finer);
    if (form.form == Form::page)
        return Address{at.value & ~std::uintptr_t{page_bytes - 1}} + static_cast<std::ptrdiff_t>(finer * page_bytes);
    return at + static_cast<std::ptrdiff_t>(distance * word_bytes);
}

}  // namespace dynfunc::arch::arm64
