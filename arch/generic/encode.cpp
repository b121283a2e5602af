// SPDX-License-Identifier: MIT
// A machine whose code is never patched. Sites load the key's pointer, so there are no instructions to write or to recognise.
#include "arch.hpp"

namespace dynfunc::arch::generic {
namespace {

constexpr Capabilities machine{.patches_text = false,
                               .site_bytes = 0,
                               .word_bytes = 0,
                               .copied_bytes = 0,
                               .integer_registers = 0,
                               .vector_registers = 0,
                               .swaps_return = false,
                               .slot_jump_bytes = 0,
                               .reference_bytes = 0,
                               .reach_back = 0,
                               .reach_ahead = 0};

}  // namespace

const Capabilities& capabilities() noexcept { return machine; }

Result<Instruction> encode_site(SiteKind, Address site, Address) noexcept {
    return std::unexpected(Error{.code = Errc::text_not_writable, .address = site});
}

bool is_slot_jump(std::span<const std::byte>, Address, Address) noexcept { return false; }

bool is_branch_jump(std::span<const std::byte>) noexcept { return false; }

}  // namespace dynfunc::arch::generic
