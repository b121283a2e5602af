// SPDX-License-Identifier: MIT
// What lets a function's return be seen: a few bytes of code for each call that is tracked.
//
//     caller   call f            pushes the caller's return address; f begins with the jump to its stub
//     stub     keeps that address in a record, writes the place of return into its word, pops it, jumps to the record's slot
//     slot     call *body        pushes the place of return into the same word of the stack; body is the copy of f's beginning
//     f        ret               to the place of return, which knows its record by its own address
//     slot     dynfunc_return_hit: calls whoever listens, writes the caller's address back, and returns to it
//
// On arm64 the word is the link register: the stub sets it to the place of return, the slot's call sets it to the same again.
//
// Each call has its return, and each return goes to where its call was: return predictors and shadow stacks stay right.
// Arguments on the stack stay where they are. Slots have unwind information by which the caller is found through the record.
// No list of a thread's or a stack's records is kept: a record belongs to whoever returns to its slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <dynfunc/address.hpp>

namespace dynfunc {

struct ReturnRecord;

// The place of return in a slot.
namespace arch::x86 {
inline constexpr std::ptrdiff_t slot_return = 6;
}
namespace arch::arm64 {
inline constexpr std::ptrdiff_t slot_return = 12;
}
namespace arch::generic {
inline constexpr std::ptrdiff_t slot_return = 1;  // there are none: no address, nor null, is one
}

namespace arch::DYNFUNC_ARCH {

// Slots of which the library brings the first ones; each further area has as many.
inline constexpr std::size_t slots_at_once = 4096, slot_bytes = 64;
inline constexpr std::ptrdiff_t slot_to_record = slots_at_once * slot_bytes;

// Null: this build tracks no calls.
Address return_slots() noexcept;

// The code of slot number i of another area; it runs anywhere.
void encode_slot(std::span<std::byte, slot_bytes> room) noexcept;

// How a slot is unwound, as return_slots.S has it: the column of the return address, and what the common entry says.
struct SlotRules {
    std::uint8_t return_column;
    std::span<const std::uint8_t> instructions;
};
SlotRules slot_rules() noexcept;

// Unwind information of another area: one common entry, one entry, four zero bytes. Returns how many bytes of `room` it took,
// and where the entry begins; 0: too small.
struct SlotFrames {
    std::size_t size, entry;
};
SlotFrames encode_slot_frames(Address slots, std::span<std::byte> room) noexcept;

// Where a call that an exception leaves goes on, and the consumer that begins to track a call.
Address return_landing() noexcept;
Address return_entry() noexcept;

}  // namespace arch::DYNFUNC_ARCH

namespace arch {
using namespace DYNFUNC_ARCH;
}

}  // namespace dynfunc
