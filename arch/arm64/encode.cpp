// SPDX-License-Identifier: MIT
// What stands at a site of arm64: one word, little-endian also where data is not.
//
//     100101 imm26    bl target
//     000101 imm26    b  target
//     d503201f        nop
//     d65f03c0        ret
//
// imm26 is signed and counts words from the instruction itself. The architecture lets a running core meet a store that replaces
// one of b, bl and nop by another. ret is not on that list: it is written where nobody runs.
#include "arm64/words.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::size_t slot_jump_words = 5;

// One word: the kernel stores it at once. More it copies in pieces that overlap, and of a store that is not aligned to its own
// size the manual does not even promise that each word in it appears whole.
constexpr std::size_t copied_bytes = word_bytes;

constexpr Capabilities machine{
    .patches_text = true,
    .site_bytes = word_bytes,
    .word_bytes = word_bytes,
    .copied_bytes = copied_bytes,
    .integer_registers = 8,
    .vector_registers = 8,
    .swaps_return = false,
    .slot_jump_bytes = slot_jump_words * word_bytes,
    .reference_bytes = word_bytes,
    .reach_back = -(std::ptrdiff_t{1} << 27),
    .reach_ahead = (std::ptrdiff_t{1} << 27) - word_bytes,
};

constexpr std::uint32_t bl = 0x9400'0000, imm26_mask = 0x03ff'ffff;

// The slot form with all its immediates 0, and the bits that are not immediates.
constexpr std::uint32_t adrp_x16 = 0x9000'0010, adrp_mask = 0x9f00'001f;
constexpr std::uint32_t add_x16_x16 = 0x9100'0210, add_mask = 0xffc0'03ff;
constexpr std::uint32_t ldar_x16_x16 = 0xc8df'fe10;

constexpr Instruction instruction(std::uint32_t word) noexcept {
    return Instruction{.bytes = {static_cast<std::byte>(word), static_cast<std::byte>(word >> 8),
                                 static_cast<std::byte>(word >> 16), static_cast<std::byte>(word >> 24)},
                       .size = word_bytes};
}

// adrp: the 4 KiB page of `at`, plus a signed number of pages that stands in two pieces: immlo in bits 30:29, immhi in 23:5.
constexpr Address page_of_adrp(std::uint32_t word, Address at) noexcept {
    const std::uint32_t pages = (word >> 5 & 0x7'ffff) << 2 | (word >> 29 & 3);
    const std::int64_t signed_pages = static_cast<std::int32_t>(pages << 11) >> 11;
    return Address{(at.value & ~std::uintptr_t{0xfff}) + static_cast<std::uintptr_t>(signed_pages * 4096)};
}

}  // namespace

const Capabilities& capabilities() noexcept { return machine; }

Result<Instruction> encode_site(SiteKind kind, Address site, Address target) noexcept {
    if (!target) return instruction(kind == SiteKind::tail_call ? ret : nop);
    const std::ptrdiff_t distance = target - site;
    const bool aligned = ((site.value | target.value) & (word_bytes - 1)) == 0;
    if (!aligned || distance < machine.reach_back || machine.reach_ahead < distance)
        return std::unexpected(Error{.code = Errc::out_of_reach, .address = target});
    const auto imm26 = static_cast<std::uint32_t>(distance / word_bytes) & imm26_mask;
    return instruction((kind == SiteKind::call ? bl : b) | imm26);
}

// nop; adrp x16, slot; add x16, x16, :lo12:slot; ldar x16, [x16]; br x16.
bool is_slot_jump(std::span<const std::byte> code, Address site, Address slot) noexcept {
    if (code.size() < slot_jump_words * word_bytes) return false;
    const std::uint32_t adrp = word_at(code, 1), add = word_at(code, 2);
    if (word_at(code, 0) != nop || (adrp & adrp_mask) != adrp_x16 || (add & add_mask) != add_x16_x16 ||
        word_at(code, 3) != ldar_x16_x16 || word_at(code, 4) != br_x16)
        return false;
    return page_of_adrp(adrp, site + word_bytes) + static_cast<std::ptrdiff_t>(add >> 10 & 0xfff) == slot;
}

bool is_branch_jump(std::span<const std::byte> code) noexcept {
    return code.size() >= word_bytes && (std::to_integer<unsigned>(code[3]) & 0xfc) == 0x14;
}

}  // namespace dynfunc::arch::arm64
