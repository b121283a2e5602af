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
constexpr std::uint32_t adrp_x16 = 0x9000'0010, adr_x16 = 0x1000'0010, adr_mask = 0x9f00'001f;
constexpr std::uint32_t add_x16_x16 = 0x9100'0210, add_mask = 0xffc0'03ff;
constexpr std::uint32_t ldar_x16_x16 = 0xc8df'fe10;

constexpr Instruction instruction(std::uint32_t word) noexcept {
    return Instruction{.bytes = {static_cast<std::byte>(word), static_cast<std::byte>(word >> 8),
                                 static_cast<std::byte>(word >> 16), static_cast<std::byte>(word >> 24)},
                       .size = word_bytes};
}

// adr and adrp: a signed number that stands in two pieces: immlo in bits 30:29, immhi in 23:5.
constexpr std::int64_t operand_of_adr(std::uint32_t word) noexcept {
    const std::uint32_t number = (word >> 5 & 0x7'ffff) << 2 | (word >> 29 & 3);
    return static_cast<std::int32_t>(number << 11) >> 11;
}

// What two instructions leave in x16; 0 if they are no such ones. Linkers relax the first pair to the second where the slot is
// within 1 MiB (aaelf64, "Relocation optimization"; LLVM's does).
//     adrp x16, slot; add x16, x16, :lo12:slot
//     nop; adr x16, slot
constexpr Address loaded_by(std::uint32_t first, std::uint32_t second, Address at) noexcept {
    if (first == nop && (second & adr_mask) == adr_x16) return at + word_bytes + operand_of_adr(second);
    if ((first & adr_mask) != adrp_x16 || (second & add_mask) != add_x16_x16) return {};
    const Address page{at.value & ~std::uintptr_t{0xfff}};
    return page + (operand_of_adr(first) * 4096 + (second >> 10 & 0xfff));
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

// nop; two instructions that load the slot's address; ldar x16, [x16]; br x16.
bool is_slot_jump(std::span<const std::byte> code, Address site, Address slot) noexcept {
    if (code.size() < slot_jump_words * word_bytes) return false;
    return word_at(code, 0) == nop && loaded_by(word_at(code, 1), word_at(code, 2), site + word_bytes) == slot &&
           word_at(code, 3) == ldar_x16_x16 && word_at(code, 4) == br_x16;
}

bool is_branch_jump(std::span<const std::byte> code) noexcept {
    return code.size() >= word_bytes && (std::to_integer<unsigned>(code[3]) & 0xfc) == 0x14;
}

}  // namespace dynfunc::arch::arm64
