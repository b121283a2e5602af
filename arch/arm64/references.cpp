// SPDX-License-Identifier: MIT
// Direct branches, found by where they lead.
//
//     100101 imm26    bl
//     000101 imm26    b
//
// imm26 is signed and counts words from the instruction itself. What is replaced is the word: the store that the manual allows
// while others run it has that size. b.cond, cbz and tbz reach 1 MiB or 32 KiB, and no compiler makes a call of them: they stay
// with the trampoline.
#include <algorithm>

#include "arm64/pc_relative.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::uint32_t link_bit = 0x8000'0000;

std::uint32_t load(Address at) noexcept { return word_at({at.as<const std::byte*>(), word_bytes}, 0); }

// b and bl, without a look at the table of all forms: every word of a text comes by here.
constexpr bool is_branch(std::uint32_t word) noexcept { return (word & ~link_bit) >> 26 == b >> 26; }
constexpr Address target_of(std::uint32_t word, Address at) noexcept {
    return at + static_cast<std::ptrdiff_t>(signed_field(word, 0, 26) * word_bytes);
}

}  // namespace

Address find_reference(AddressRange text, Address from, AddressRange window) noexcept {
    const Address first = std::max(from, text.begin);
    for (Address at{(first.value + word_bytes - 1) & ~std::uintptr_t{word_bytes - 1}}; at + word_bytes <= text.end;
         at = at + word_bytes) {
        const std::uint32_t word = load(at);
        if (is_branch(word) && window.contains(target_of(word, at))) return at;
    }
    return {};
}

Address reference_begin(Address field) noexcept { return field; }

Address reference_target(Address field) noexcept { return target_of(load(field), field); }

Result<std::uint32_t> encode_reference(Address field, std::uint32_t current, Address target) noexcept {
    const auto branch = encode_site((current & link_bit) != 0 ? SiteKind::call : SiteKind::branch, field, target);
    if (!branch) return std::unexpected(branch.error());
    return word_at(branch->span(), 0);
}

}  // namespace dynfunc::arch::arm64
