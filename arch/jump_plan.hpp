// SPDX-License-Identifier: MIT
// How a jump can be put in the place of instructions that other threads are running, have been interrupted in, or will come
// back to at any later time.
//
// The danger is a thread whose next instruction stands at an inner boundary: behind the first instruction, under the jump's
// distance. Nobody waits for such threads. Instead the distance is chosen so that each inner boundary reads as a breakpoint;
// who goes on there traps, and is moved to the copy of the instruction that it was about to run.
//
//     form       bytes before                bytes after               who may stand inside
//     whole      AAAAA                       e9 d0 d1 d2 d3            nobody: one instruction
//     guarded    AA B CC                     e9 d0 cc cc d3            at B, at C: a trap, then the copy of B or of C
//     punned     AA | BBB CC                 e9 d0 | BBB               nobody: one instruction; its successors do not change
//
// A distance of which bytes are given leads to few places; where one of them is free, there the jump goes.
#pragma once

#include "relocate.hpp"

namespace dynfunc::arch {

enum class JumpForm : std::uint8_t { whole, guarded, punned };

struct JumpPlan {
    JumpForm form{};
    Displaced displaced;
    std::uint8_t written = 0;                 // how many bytes at the site change
    std::uint32_t given_mask = 0, given = 0;  // bits of the jump's distance, as a number, that cannot be chosen
    std::int8_t distance_from = 0;            // from the site to where the distance counts from
};

// The code from a site on.
struct JumpSite {
    Address at;
    std::span<const std::byte> code;  // up to the end of the function
    std::size_t free_behind = 0;      // how many bytes behind `code` nobody runs
    std::uint32_t branches_to = 0;    // bit k: some branch of the program leads to at + k
    bool is_guarded = false;          // an indirect branch comes to no instruction of its page but to landing pads
};

namespace DYNFUNC_ARCH {

// Errors, with the address of the instruction: too_short (the form needs a longer instruction, or the function ends before),
// branch_inside (a branch leads into what is displaced), call_inside (a callee comes back to where the jump stands),
// not_an_instruction, not_movable, landing_pad (an indirect branch may come there, and to no jump).
Result<JumpPlan> plan_jump(JumpForm form, const JumpSite& site) noexcept;

// Whether what stands around `at` allows a probe there; `function` is the code of its function, which begins at `begin`.
// Errors, with address `at`: exclusive_access (between a load-exclusive and its store-exclusive: what a probe does in between
// makes the store fail, each time); not_movable (behind an instruction that belongs to the next one).
Result<void> check_neighbours(std::span<const std::byte> function, Address begin, Address at) noexcept;

// Calls found(context, target) for every direct branch, calls too, among the instructions of `code`, from its first byte on;
// and found(context, Address{}) for every indirect jump, which may lead anywhere in its function. What follows an unknown
// instruction is none. Throws: what found() throws.
void find_branch_targets(AddressRange code, void* context, void (*found)(void* context, Address target));

// How many bytes at the beginning of `code` do nothing but fill up: whole instructions nop and int3.
std::size_t padding_bytes(std::span<const std::byte> code) noexcept;

}  // namespace DYNFUNC_ARCH

}  // namespace dynfunc::arch
