// SPDX-License-Identifier: MIT
// One instruction as Zydis reads it, and what those who move instructions ask of it.
#pragma once

#include <Zydis/Zydis.h>

#include <optional>

#include "arch.hpp"

namespace dynfunc::arch::x86 {

struct Decoded : ZydisDecodedInstruction {
    static constexpr std::uint8_t no_base = 5;  // in ModRM, without a displacement of its own: counts from the end

    std::span<const std::byte> bytes;
    Address at;

    Address end() const noexcept { return at + length; }
    bool has_map(ZydisOpcodeMap map) const noexcept {
        return encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && opcode_map == map;
    }
    bool is_default(std::uint8_t first, std::uint8_t last) const noexcept {
        return has_map(ZYDIS_OPCODE_MAP_DEFAULT) && first <= opcode && opcode <= last;
    }
    bool is_group5(std::uint8_t operation) const noexcept { return is_default(0xff, 0xff) && raw.modrm.reg == operation; }
    bool is_near_jcc() const noexcept { return has_map(ZYDIS_OPCODE_MAP_0F) && (opcode & 0xf0) == 0x80; }
    // jcc, jmp, call, loop, xbegin.
    std::optional<Address> target() const noexcept {
        if (!raw.imm[0].is_relative) return std::nullopt;
        return end() + static_cast<std::ptrdiff_t>(raw.imm[0].value.s);
    }
    bool has_modrm() const noexcept { return (attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0; }
    // Memory at a distance from the instruction's end.
    bool has_rip_operand() const noexcept {
        return has_modrm() && raw.modrm.mod == 0 && raw.modrm.rm == no_base && raw.disp.size == 32;
    }
    bool has_16_bit_operand() const noexcept { return (attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0 && raw.rex.W == 0; }
    bool is_call() const noexcept { return is_default(0xe8, 0xe8) || is_group5(2) || is_group5(3); }
    bool goes_on() const noexcept {
        switch (meta.category) {
            case ZYDIS_CATEGORY_UNCOND_BR:
            case ZYDIS_CATEGORY_RET:
                return false;
            default:
                return mnemonic != ZYDIS_MNEMONIC_UD0 && mnemonic != ZYDIS_MNEMONIC_UD1 && mnemonic != ZYDIS_MNEMONIC_UD2 &&
                       mnemonic != ZYDIS_MNEMONIC_HLT;
        }
    }
};

inline std::optional<Decoded> decode(std::span<const std::byte> code, Address at) noexcept {
    // Made anew each time: a few stores, and no guard that a raw clone's child could find taken.
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    std::optional<Decoded> decoded(std::in_place);
    if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, nullptr, code.data(), code.size(), &*decoded))) return std::nullopt;
    decoded->bytes = code.first(decoded->length);
    decoded->at = at;
    return decoded;
}

// The instruction at `at`, which ends before `end`.
inline std::optional<Decoded> decode_until(Address at, Address end) noexcept {
    return decode(std::span(at.as<const std::byte*>(), static_cast<std::size_t>(end - at)), at);
}

}  // namespace dynfunc::arch::x86
