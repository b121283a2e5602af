// SPDX-License-Identifier: MIT
// What the tests of chains have to know of a machine, from sources other than the encoder: chain_<machine>.cpp defines it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "arch.hpp"

namespace dynfunc::arch::test {

// Bytes that an assembler made of code that was written by hand.
struct ChainSample {
    std::string_view what;
    ArgumentLayout layout;
    std::vector<ChainCall> calls;
    Address runs_at;
    std::vector<std::uint8_t> bytes;
};
extern const std::vector<ChainSample> chain_samples;

// What a chain begins with, and what fills it up to its end, again and again.
extern const std::vector<std::uint8_t> landing_pad, trap;

// By how many bytes a call lowers the stack pointer.
extern const std::ptrdiff_t lowered_by_call;

// The numbers that unwind tables give to registers.
struct UnwindColumns {
    std::uint8_t frame_pointer, return_address;
};
extern const UnwindColumns unwind_columns;

}  // namespace dynfunc::arch::test
