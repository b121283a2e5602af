// SPDX-License-Identifier: MIT
// Thunks of wraps, on x86-64:
//
//     48 b8+r imm64        movabs $context, %rdi (or another of the six)
//     49 bb imm64          or: movabs $context, %r11, which a call may change
//     66 49 0f 6e c3+8*n       movq   %r11, %xmm<n>
//     ...                  jmp entry (encode_jump_anywhere())
//     cc                   up to a multiple of 16
//                          copy
#include <algorithm>
#include <array>

#include "code_writer.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch::x86 {
namespace {

// As instructions number them.
constexpr std::array<std::uint8_t, Registers::integer_arguments> integer_registers{7, 6, 2, 1, 8, 9};
constexpr std::uint8_t r11 = 11;

void put_movabs(CodeWriter& code, std::uint8_t reg, std::uint64_t value) noexcept {
    code.put(static_cast<std::uint8_t>(reg < 8 ? 0x48 : 0x49));
    code.put(static_cast<std::uint8_t>(0xb8 | (reg & 7)));
    code.put(value);
}

}  // namespace

Result<Stub> encode_wrap_thunk(const ThunkRequest& request, Address runs_at, std::span<std::byte> room) noexcept {
    constexpr std::uint8_t trap = 0xcc;
    CodeWriter code(room, runs_at);
    if (request.in_vector_register) {
        put_movabs(code, r11, request.context.value);
        for (const std::uint8_t byte : {0x66, 0x49, 0x0f, 0x6e}) code.put(byte);
        code.put(static_cast<std::uint8_t>(0xc3 + 8 * request.number));
    } else {
        put_movabs(code, integer_registers[request.number], request.context.value);
    }
    code.put(encode_jump_anywhere(code.here(), request.entry));
    code.align(trap);

    Stub stub;
    stub.copy = static_cast<std::uint16_t>(code.size());
    std::array<std::byte, Relocated::most_bytes> copied;
    const auto relocated = relocate(*request.displaced, code.here(), copied);
    if (!relocated) return std::unexpected(relocated.error());
    stub.relocated = *relocated;
    code.put(std::span<const std::byte>(copied).first(relocated->size));
    code.align(trap);
    const auto size = code.finish();
    if (!size) return std::unexpected(size.error());
    stub.size = static_cast<std::uint16_t>(*size);
    return stub;
}

}  // namespace dynfunc::arch::x86
