// SPDX-License-Identifier: MIT
// Instructions that run somewhere else than where the compiler put them, because a probe's jump stands in their place.
//
//     auto displaced = arch::read_displaced(code, at, 5);
//     auto copy = arch::relocate(*displaced, runs_at, room);     // ends with a jump back, if execution goes on behind them
//
// A copy does what the original does, in memory, registers, flags and stack: what counts from the instruction's own address
// counts from the copy's, and a call pushes the original's return address, so that whoever walks the stack finds a caller that
// it knows.
//
// A branch to one of the displaced instructions themselves leads into the copy, but for the first: it leads to the original
// place, where the probe is hit again.
#pragma once

#include "arch.hpp"

namespace dynfunc::arch {

// Whole instructions, one behind the other.
struct Displaced {
    static constexpr std::size_t most_instructions = 5;  // as many as a jump of 5 bytes can touch
    static constexpr std::size_t most_bytes = 4 + 15;

    Address at;
    std::array<std::byte, most_bytes> bytes{};
    std::array<std::uint8_t, most_instructions + 1>
        begins{};  // of each instruction, counted from `at`; and where the last ends
    std::uint8_t count = 0;
    std::uint8_t calls = 0;  // a bit for each instruction that is a call
    bool goes_on = true;     // execution may reach what stands behind the last

    std::size_t size() const noexcept { return begins[count]; }
    std::span<const std::byte> instruction(std::size_t i) const noexcept {
        return std::span(bytes).subspan(begins[i], begins[i + 1] - std::size_t{begins[i]});
    }
};

struct Relocated {
    // No copy takes more.
    static constexpr std::size_t most_bytes = 192;

    std::uint16_t size = 0;
    std::array<std::uint16_t, Displaced::most_instructions> begins{};  // of each instruction's copy
    std::uint16_t back = 0;                                            // of the jump back; `size` if there is none
    // Between them the copy keeps x16 on the stack, in the lower of 16 bytes. Both are 0 where it does not.
    std::uint16_t lowered = 0, raised = 0;
};

namespace DYNFUNC_ARCH {

// The instructions from the first of `code` on, which stands at `at`, that take `at_least` bytes (5 at most) together; fewer
// where one of them never goes on to the next.
// Errors: not_an_instruction (address = where), also where `code` ends before; without a decoder always.
Result<Displaced> read_displaced(std::span<const std::byte> code, Address at, std::size_t at_least) noexcept;

// Their copy, in `room`, to be executed at `runs_at`. Pure: touches no memory but `room`.
// Errors: not_movable (address = of the instruction); out_of_reach (address = what an instruction refers to, too far from its
// copy: nearer to that, it may do); out_of_memory where `room` is too small.
Result<Relocated> relocate(const Displaced& displaced, Address runs_at, std::span<std::byte> room) noexcept;

}  // namespace DYNFUNC_ARCH

}  // namespace dynfunc::arch
