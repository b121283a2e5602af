// SPDX-License-Identifier: MIT
// How a stub is unwound: as if the probed function had been interrupted where the probe is. Everything is exact at each
// instruction, for profilers that interrupt a stub.
//
//     a jump to the stub               CFA = sp            pc = the probe
//     up to the first change of sp     CFA = sp            pc = the probe
//     until sp is raised               CFA = sp + frame    x29 and x30 are saved
//     copy of the instruction          CFA = sp            pc = the probe
//     while it has x16 on the stack    CFA = sp + 16       pc = the probe, x16 is saved
//     the branch back                  CFA = sp            pc = behind the probe
//
// pc is column 96, as in the frames of signals (libgcc, config/aarch64/linux-unwind.h: DWARF_ALT_FRAME_RETURN_COLUMN): x30 has
// its own value, which is where the probed function returns to, or not.
#include <elf.h>

#include "frame_entry.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch::arm64 {
namespace {

// DWARF's numbers of registers (DWARF for the Arm 64-bit Architecture, 4.1).
constexpr std::uint8_t x16 = 16, x29 = 29, x30 = 30, sp = 31, pc = 96;
using frame_opcode::same_value;
constexpr std::uint8_t minus_8 = 0x78;  // signed LEB128
constexpr std::uint8_t pointer_absolute = 0x00;

constexpr std::size_t frame_bytes = sizeof(Registers) + 16;

}  // namespace

std::size_t encode_frames_begin(std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put(std::uint32_t{0}, std::uint8_t{1});
    for (const char c : {'z', 'R', 'S', '\0'}) entry.put(static_cast<std::uint8_t>(c));
    entry.put(std::uint8_t{1}, minus_8, pc, std::uint8_t{1}, pointer_absolute);
    entry.put_cfa(sp, 0);
    return entry.finish();
}

std::uint16_t elf_machine() noexcept { return EM_AARCH64; }

std::size_t encode_jump_frame(std::size_t from_begin, Address at, Address runs_at, std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put_function(from_begin, runs_at, jump_anywhere_bytes);
    entry.put_next(pc, at);
    return entry.finish();
}

std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put_function(from_begin, runs_at, stub.size);
    entry.put_next(pc, displaced.at);
    if (stub.has_frame()) {
        entry.advance_to(stub.frame[0]);
        entry.put_cfa(sp, frame_bytes);
        entry.advance_to(stub.frame[1]);
        constexpr std::size_t x29_at = offsetof(Registers, x) + 29 * 8;
        entry.put_saved(x29, (frame_bytes - x29_at) / 8);
        entry.put_saved(x30, (frame_bytes - x29_at) / 8 - 1);
        entry.advance_to(stub.frame[2]);
        entry.put(same_value, x29);
        entry.put(same_value, x30);
        entry.advance_to(stub.frame[3]);
        entry.put_cfa(sp, 0);
    }
    if (const Relocated& copy = stub.relocated; copy.raised != 0) {
        entry.advance_to(std::size_t{stub.copy} + copy.lowered);
        entry.put_cfa(sp, 16);
        entry.put_saved(x16, 2);
        entry.advance_to(std::size_t{stub.copy} + copy.raised);
        entry.put(same_value, x16);
        entry.put_cfa(sp, 0);
    }
    entry.advance_to(stub.copy + std::size_t{stub.relocated.back});
    entry.put_next(pc, displaced.at + static_cast<std::ptrdiff_t>(displaced.size()));
    return entry.finish();
}

}  // namespace dynfunc::arch::arm64
