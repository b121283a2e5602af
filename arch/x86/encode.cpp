// SPDX-License-Identifier: MIT
// What stands at a site of x86-64. Always five bytes, so that each form may replace each other one.
//
//     e8 rel32          call target
//     e9 rel32          jmp target
//     0f 1f 44 00 00    nopl 0(%rax,%rax,1)
//     c3 cc cc cc cc    ret; the int3 behind it are never reached
//
// rel32 is signed and counts from the end of the instruction.
#include <algorithm>
#include <limits>
#include <utility>

#include "arch.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr std::uint8_t site_bytes = 5;
constexpr std::uint8_t slot_jump_bytes = 6;

constexpr std::int64_t reach_back = std::int64_t{std::numeric_limits<std::int32_t>::min()} + site_bytes;
constexpr std::int64_t reach_ahead = std::int64_t{std::numeric_limits<std::int32_t>::max()} + site_bytes;

// A cache line: the kernel copies with an instruction that may be interrupted, and a longer copy was seen to leave half a
// distance behind while it was (docs/decisions/0008-call-sites.md).
constexpr std::size_t copied_bytes = 64;

// The second limit does not fit the ptrdiff_t of a 32-bit host, where every address is within reach.
constexpr Capabilities machine{
    .patches_text = true,
    .site_bytes = site_bytes,
    .word_bytes = 8,
    .copied_bytes = copied_bytes,
    .integer_registers = 6,
    .vector_registers = 8,
    .swaps_return = true,
    .slot_jump_bytes = slot_jump_bytes,
    .reference_bytes = 4,
    .reach_back = static_cast<std::ptrdiff_t>(reach_back),
    .reach_ahead = static_cast<std::ptrdiff_t>(std::min<std::int64_t>(reach_ahead, std::numeric_limits<std::ptrdiff_t>::max())),
};

constexpr Instruction site_instruction(std::uint8_t opcode, std::uint32_t rest) noexcept {
    return Instruction{.bytes = {std::byte{opcode}, static_cast<std::byte>(rest), static_cast<std::byte>(rest >> 8),
                                 static_cast<std::byte>(rest >> 16), static_cast<std::byte>(rest >> 24)},
                       .size = site_bytes};
}

constexpr Instruction nop = site_instruction(0x0f, 0x0000'441f);
constexpr Instruction ret = site_instruction(0xc3, 0xcccc'cccc);

}  // namespace

const Capabilities& capabilities() noexcept { return machine; }

Result<Instruction> encode_site(SiteKind kind, Address site, Address target) noexcept {
    if (!target) return kind == SiteKind::tail_call ? ret : nop;
    const std::int64_t rel = target - (site + site_bytes);
    if (!std::in_range<std::int32_t>(rel)) return std::unexpected(Error{.code = Errc::out_of_reach, .address = target});
    return site_instruction(kind == SiteKind::call ? 0xe8 : 0xe9, static_cast<std::uint32_t>(rel));
}

// ff 25 disp32: jmp *slot(%rip); disp32 is signed and counts from the end of the instruction.
bool is_slot_jump(std::span<const std::byte> code, Address site, Address slot) noexcept {
    if (code.size() < slot_jump_bytes || code[0] != std::byte{0xff} || code[1] != std::byte{0x25}) return false;
    std::uint32_t disp = 0;
    for (std::size_t i = 0; i < 4; ++i) disp |= std::to_integer<std::uint32_t>(code[2 + i]) << (8 * i);
    return site + slot_jump_bytes + static_cast<std::int32_t>(disp) == slot;
}

bool is_branch_jump(std::span<const std::byte> code) noexcept {
    return code.size() >= site_bytes && code[0] == std::byte{0xe9};
}

}  // namespace dynfunc::arch::x86
