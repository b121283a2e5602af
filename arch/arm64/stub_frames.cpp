// SPDX-License-Identifier: MIT
// How a stub is unwound: as if the probed function had been interrupted where the probe is. Everything is exact at each
// instruction, for profilers that interrupt a stub.
//
//     a jump to the stub               CFA = sp            pc = the probe
//     up to the first change of sp     CFA = sp            pc = the probe
//     until sp is raised               CFA = sp + frame    x29 and x30 are saved
//     copy of the instruction          CFA = sp            pc = the probe
//     the branch back                  CFA = sp            pc = behind the probe
//
// pc is column 96, as in the frames of signals (libgcc, config/aarch64/linux-unwind.h: DWARF_ALT_FRAME_RETURN_COLUMN): x30 has
// its own value, which is where the probed function returns to, or not.
#include <elf.h>

#include "code_writer.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch::arm64 {
namespace {

// DWARF's numbers of registers (DWARF for the Arm 64-bit Architecture, 4.1), and opcodes.
constexpr std::uint8_t x29 = 29, x30 = 30, sp = 31, pc = 96;
constexpr std::uint8_t advance_loc2 = 0x03, same_value = 0x08, def_cfa = 0x0c, val_expression = 0x16, offset = 0x80, nop = 0x00;
constexpr std::uint8_t op_const8u = 0x0e;
constexpr std::uint8_t minus_8 = 0x78;  // signed LEB128
constexpr std::uint8_t pointer_absolute = 0x00;

constexpr std::size_t frame_bytes = sizeof(Registers) + 16;

class Entry {
public:
    explicit Entry(std::span<std::byte> room) noexcept : bytes_(room, Address{}) { bytes_.put(std::uint32_t{0}); }

    template <class... T>
    void put(T... values) noexcept {
        (bytes_.put(values), ...);
    }
    void put_cfa(std::size_t distance) noexcept {
        put(def_cfa, sp);
        for (; distance >= 0x80; distance >>= 7) put(static_cast<std::uint8_t>(distance | 0x80));
        put(static_cast<std::uint8_t>(distance));
    }
    void put_next(Address next) noexcept { put(val_expression, pc, std::uint8_t{9}, op_const8u, std::uint64_t{next.value}); }
    void advance_to(std::size_t at) noexcept {
        if (at == at_) return;
        put(advance_loc2, static_cast<std::uint16_t>(at - at_));
        at_ = at;
    }
    // Its length goes to its beginning.
    std::size_t finish(std::span<std::byte> room) noexcept {
        while (bytes_.size() % 8 != 0) put(nop);
        const auto size = bytes_.finish();
        if (!size) return 0;
        CodeWriter(room, Address{}).put(static_cast<std::uint32_t>(*size - sizeof(std::uint32_t)));
        return *size;
    }

private:
    CodeWriter bytes_;
    std::size_t at_ = 0;
};

}  // namespace

std::size_t encode_frames_begin(std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(std::uint32_t{0}, std::uint8_t{1});
    for (const char c : {'z', 'R', 'S', '\0'}) entry.put(static_cast<std::uint8_t>(c));
    entry.put(std::uint8_t{1}, minus_8, pc, std::uint8_t{1}, pointer_absolute);
    entry.put_cfa(0);
    return entry.finish(room);
}

std::uint16_t elf_machine() noexcept { return EM_AARCH64; }

std::size_t encode_jump_frame(std::size_t from_begin, Address at, Address runs_at, std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(static_cast<std::uint32_t>(from_begin + sizeof(std::uint32_t)));
    entry.put(std::uint64_t{runs_at.value}, std::uint64_t{jump_anywhere_bytes}, std::uint8_t{0});
    entry.put_next(at);
    return entry.finish(room);
}

std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(static_cast<std::uint32_t>(from_begin + sizeof(std::uint32_t)));
    entry.put(std::uint64_t{runs_at.value}, std::uint64_t{stub.size}, std::uint8_t{0});
    entry.put_next(displaced.at);
    if (stub.has_frame()) {
        entry.advance_to(stub.frame[0]);
        entry.put_cfa(frame_bytes);
        entry.advance_to(stub.frame[1]);
        constexpr std::size_t x29_at = offsetof(Registers, x) + 29 * 8;
        entry.put(static_cast<std::uint8_t>(offset | x29), static_cast<std::uint8_t>((frame_bytes - x29_at) / 8));
        entry.put(static_cast<std::uint8_t>(offset | x30), static_cast<std::uint8_t>((frame_bytes - x29_at) / 8 - 1));
        entry.advance_to(stub.frame[2]);
        entry.put(same_value, x29);
        entry.put(same_value, x30);
        entry.advance_to(stub.frame[3]);
        entry.put_cfa(0);
    }
    entry.advance_to(stub.copy + std::size_t{stub.relocated.back});
    entry.put_next(displaced.at + static_cast<std::ptrdiff_t>(displaced.size()));
    return entry.finish(room);
}

}  // namespace dynfunc::arch::arm64
