// SPDX-License-Identifier: MIT
// The instructions of a function, one after the other. Zydis reads them; only their ends matter, and what the branches are.
#include "x86/decoded.hpp"

namespace dynfunc::arch::x86 {
namespace {

// The distance field of a call, jmp or jcc, as an offset from the instruction; 0: it is none of them, or a short one. (xbegin
// has a distance too, but is not called through trampolines.)
std::ptrdiff_t field_of(const Decoded& instruction) noexcept {
    const auto& distance = instruction.raw.imm[0];
    const bool branches = instruction.is_default(0xe8, 0xe9) || instruction.is_near_jcc();
    return branches && distance.is_relative && distance.size == 32 ? distance.offset : 0;
}

}  // namespace

bool has_decoder() noexcept { return true; }

void confirm_references(AddressRange function, std::span<Reference> ascending) noexcept {
    Address at = function.begin;
    bool known = true, trapped = false;
    for (Reference& reference : ascending) {
        reference.is_branch = false;
        while (known && at <= reference.field) {
            const auto instruction = decode_until(at, function.end);
            known = instruction.has_value();
            if (!known) break;
            // int3 in the place of the first byte of an instruction, whose other bytes are then read as something else.
            trapped = trapped || instruction->is_default(0xcc, 0xcc);
            const std::ptrdiff_t field = field_of(*instruction);
            if (field != 0 && at + field == reference.field) reference.is_branch = true;
            at = instruction->end();
        }
        reference.behind_trap = trapped;
    }
}

}  // namespace dynfunc::arch::x86
