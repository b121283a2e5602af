// SPDX-License-Identifier: MIT
// The instructions of a function, one after the other. Zydis reads them; only their ends matter, and what the branches are.
#include <Zydis/Zydis.h>

#include "arch.hpp"

namespace dynfunc::arch::x86 {
namespace {

// The distance field of a call, jmp or jcc, as an offset from the instruction; 0: it is none of them, or a short one. (xbegin
// has a distance too, but is not called through trampolines.)
std::ptrdiff_t field_of(const ZydisDecodedInstruction& instruction) noexcept {
    const bool call_or_jmp =
        instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (instruction.opcode == 0xe8 || instruction.opcode == 0xe9);
    const bool jcc = instruction.opcode_map == ZYDIS_OPCODE_MAP_0F && (instruction.opcode & 0xf0) == 0x80;
    const auto& distance = instruction.raw.imm[0];
    return (call_or_jmp || jcc) && distance.is_relative && distance.size == 32 ? distance.offset : 0;
}

}  // namespace

bool has_decoder() noexcept { return true; }

void confirm_references(AddressRange function, std::span<Reference> ascending) noexcept {
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    Address at = function.begin;
    ZydisDecodedInstruction instruction;
    bool known = true, trapped = false;
    for (Reference& reference : ascending) {
        reference.is_branch = false;
        while (known && at <= reference.field) {
            known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, at.as<const void*>(),
                                                               static_cast<ZyanUSize>(function.end - at), &instruction));
            if (!known) break;
            // int3 in the place of the first byte of an instruction, whose other bytes are then read as something else.
            trapped = trapped || (instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && instruction.opcode == 0xcc);
            const std::ptrdiff_t field = field_of(instruction);
            if (field != 0 && at + field == reference.field) reference.is_branch = true;
            at = at + instruction.length;
        }
        reference.behind_trap = trapped;
    }
}

}  // namespace dynfunc::arch::x86
