// SPDX-License-Identifier: MIT
// What encode_test.cpp has to know of a machine, from sources other than the encoder: a manual, an assembler, a disassembler.
// machine_<name>.cpp defines it; one of them is linked to each test program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch.hpp"

namespace dynfunc::arch::test {

// One instruction as an independent decoder reads it.
struct Decoded {
    std::string mnemonic;
    std::size_t size = 0;
    std::optional<Address> target{};   // of a direct branch
    bool indirect = false;             // a branch to where a register or memory says
    std::optional<Address> operand{};  // memory at a distance from the instruction
    std::ptrdiff_t lowers_stack = 0;   // by so many bytes, before any branch
};

// Every instruction in `code`, as executed at `at`. Bytes that are none are one instruction without a name.
std::vector<Decoded> decode(std::span<const std::byte> code, Address at);

// How the decoder calls what stands at a site.
struct Mnemonics {
    std::string_view call, jump, nop, ret;
    std::string_view padding;  // what fills a site behind a shorter instruction
};
extern const Mnemonics mnemonics;

// What capabilities() must say, and the distance between two neighbouring targets.
extern const Capabilities expected_capabilities;
extern const std::ptrdiff_t target_step;

// Bytes that an assembler made of the same wish.
struct Sample {
    SiteKind kind;
    Address site, target;
    std::vector<std::uint8_t> bytes;
};
extern const std::vector<Sample> samples;

// Code that an assembler and a linker made, or a distorted copy of it.
struct SlotSample {
    std::string_view what;
    std::vector<std::uint8_t> bytes;
    Address site, slot;
};
extern const std::vector<SlotSample> slot_jumps;
extern const std::vector<SlotSample> not_slot_jumps;

}  // namespace dynfunc::arch::test
