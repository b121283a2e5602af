// SPDX-License-Identifier: MIT
// Writing one entry of unwind information of code that is made when the program runs (DWARF 5, 6.4; the form of .eh_frame).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "code_writer.hpp"

namespace dynfunc::arch {

// The opcodes that stubs need.
namespace frame_opcode {
inline constexpr std::uint8_t advance_loc2 = 0x03, same_value = 0x08, def_cfa = 0x0c, def_cfa_sf = 0x12, val_expression = 0x16,
                              offset = 0x80, nop = 0x00;
inline constexpr std::uint8_t op_const8u = 0x0e;
}  // namespace frame_opcode

class FrameEntry {
public:
    explicit FrameEntry(std::span<std::byte> room) noexcept : room_(room), bytes_(room, Address{}) {
        bytes_.put(std::uint32_t{0});
    }

    template <class... T>
    void put(T... values) noexcept {
        (bytes_.put(values), ...);
    }
    // Of a function; the common entry begins so many bytes before this one.
    void put_function(std::size_t from_begin, Address runs_at, std::size_t size) noexcept {
        put(static_cast<std::uint32_t>(from_begin + sizeof(std::uint32_t)));
        put(std::uint64_t{runs_at.value}, std::uint64_t{size}, std::uint8_t{0});
    }
    void put_cfa(std::uint8_t reg, std::size_t distance) noexcept {
        put(frame_opcode::def_cfa, reg);
        for (; distance >= 0x80; distance >>= 7) put(static_cast<std::uint8_t>(distance | 0x80));
        put(static_cast<std::uint8_t>(distance));
    }
    // The frame above goes on at `next`.
    void put_next(std::uint8_t return_column, Address next) noexcept {
        put(frame_opcode::val_expression, return_column, std::uint8_t{9}, frame_opcode::op_const8u, std::uint64_t{next.value});
    }
    void put_saved(std::uint8_t reg, std::size_t words_below_cfa) noexcept {
        put(static_cast<std::uint8_t>(frame_opcode::offset | reg), static_cast<std::uint8_t>(words_below_cfa));
    }
    void advance_to(std::size_t at) noexcept {
        if (at == at_) return;
        put(frame_opcode::advance_loc2, static_cast<std::uint16_t>(at - at_));
        at_ = at;
    }
    // Its length goes to its beginning. Returns how many bytes it took; 0: too small.
    std::size_t finish() noexcept {
        while (bytes_.size() % 8 != 0) put(frame_opcode::nop);
        const auto size = bytes_.finish();
        if (!size) return 0;
        CodeWriter(room_, Address{}).put(static_cast<std::uint32_t>(*size - sizeof(std::uint32_t)));
        return *size;
    }

private:
    std::span<std::byte> room_;
    CodeWriter bytes_;
    std::size_t at_ = 0;
};

}  // namespace dynfunc::arch
