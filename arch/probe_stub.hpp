// SPDX-License-Identifier: MIT
// What a probe's jump leads to: code that saves the general registers, asks whoever listens, and goes on with a copy of the
// instructions under the jump.
//
//     begin:  lower the stack pointer by the red zone and a Registers; save
//             call dynfunc_probe_hit(site, registers)
//             did it change where to go on, or the stack pointer?  then leave(registers), which does not come back
//             is the call to be seen when it returns? then restore, and jump to the slot it was given (return_slots.hpp)
//             restore
//     copy:   the displaced instructions (relocate.hpp), and a jump back
//
// The frame is what a debugger and an unwinder expect of an interrupted function: the frame pointer leads to a pair of the old
// frame pointer and the address of the probe, and StubFrames says the same in DWARF.
#pragma once

#include <dynfunc/registers.hpp>

#include "relocate.hpp"

namespace dynfunc::arch {

struct StubRequest {
    const Displaced* displaced;
    bool is_function_begin;  // the direction flag is clear
    Address site;            // handed to dynfunc_probe_hit (lib/probe/hit.hpp)
};

struct Stub {
    std::uint16_t size = 0, copy = 0;  // where the displaced instructions begin
    // Where the frame changes: lowered, frame pointer set, stack pointer back, raised; at a function's begin also where it has
    // been raised for a slot, which finds the return address popped, and where that ends: behind the copy by as much as this is
    // behind `copy`.
    std::array<std::uint16_t, 6> frame{};
    bool has_frame() const noexcept { return frame[0] != 0; }
    Relocated relocated;  // counted from `copy`
};

namespace DYNFUNC_ARCH {

inline constexpr std::size_t most_stub_bytes = 768;

// The stub, in `room`, to be executed at `runs_at`. Throws nothing, but allocates.
// Errors: as of relocate(); out_of_memory.
Result<Stub> encode_stub(const StubRequest& request, Address runs_at, std::span<std::byte> room) noexcept;

// What a wrap's jump leads to, instead of a stub: it hands `context` to `entry`, in a register of arguments that the wrapped
// function does not use, and leaves the stack as it is. Behind it stands the copy, which `entry` calls as the original
// function.
//
//     begin:  context to the register
//             jmp entry
//     copy:   the displaced instructions, and a jump back
struct ThunkRequest {
    const Displaced* displaced;
    Address context, entry;
    bool in_vector_register;  // the first `sizeof context` bytes of it
    unsigned number;          // of the register among those that carry arguments of its kind
};
// Its Stub has no frame.  Pure.  Errors: as of relocate(); out_of_memory.
Result<Stub> encode_wrap_thunk(const ThunkRequest& request, Address runs_at, std::span<std::byte> room) noexcept;

// A jump that reaches everything: `jump_anywhere_bytes` of it. Pure.
inline constexpr std::size_t jump_anywhere_bytes = 16;
std::array<std::byte, jump_anywhere_bytes> encode_jump_anywhere(Address runs_at, Address target) noexcept;

// DWARF unwind information of stubs (DWARF 5, 6.4; Linux Standard Base, "Exception Frames"): one common entry, then one entry
// per stub, then four zero bytes. Returns how many bytes were put into `room`; 0: it is too small.
std::size_t encode_frames_begin(std::span<std::byte> room) noexcept;
std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept;

// The same of a jump to a stub (encode_jump_anywhere()) from the place `at`.
std::size_t encode_jump_frame(std::size_t from_begin, Address at, Address runs_at, std::span<std::byte> room) noexcept;

// What an object file of this machine says (EM_...).
std::uint16_t elf_machine() noexcept;

// With vector registers and the state of floating point arithmetic kept: run(a, registers), where registers->vectors shows
// them.
using WithVectors = void (*)(void (*run)(void*, Registers*), void* a, Registers* registers);
WithVectors with_vectors() noexcept;

// Where a stub goes when dynfunc_probe_hit says so.
Address leave_stub() noexcept;

// The instruction that traps; bytes of it, and what a trap handler is told: where it stood.
struct Breakpoint {
    std::array<std::byte, 4> bytes;
    std::size_t size;
};
const Breakpoint& breakpoint() noexcept;

// Whether this build can make stubs.
bool has_stubs() noexcept;

}  // namespace DYNFUNC_ARCH

}  // namespace dynfunc::arch
