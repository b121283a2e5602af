// SPDX-License-Identifier: MIT
// What a probe's jump leads to: code that saves the general registers, asks whoever listens, and goes on with a copy of the
// instructions under the jump.
//
//     begin:  lower the stack pointer by the red zone and a Registers; save
//             call dynfunc_probe_hit(site, registers)
//             did it change where to go on, or the stack pointer?  then leave(registers), which does not come back
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
    // Where the frame changes: lowered, frame pointer set, stack pointer back, raised.
    std::array<std::uint16_t, 4> frame{};
    Relocated relocated;  // counted from `copy`
};

namespace DYNFUNC_ARCH {

inline constexpr std::size_t most_stub_bytes = 768;

// The stub, in `room`, to be executed at `runs_at`. Throws nothing, but allocates.
// Errors: as of relocate(); out_of_memory.
Result<Stub> encode_stub(const StubRequest& request, Address runs_at, std::span<std::byte> room) noexcept;

// A jump that reaches everything: `jump_anywhere_bytes` of it. Pure.
inline constexpr std::size_t jump_anywhere_bytes = 16;
std::array<std::byte, jump_anywhere_bytes> encode_jump_anywhere(Address runs_at, Address target) noexcept;

// DWARF unwind information of stubs (DWARF 5, 6.4; Linux Standard Base, "Exception Frames"): one common entry, then one entry
// per stub, then four zero bytes. Returns how many bytes were put into `room`; 0: it is too small.
std::size_t encode_frames_begin(std::span<std::byte> room) noexcept;
std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept;

// What an object file of this machine says (EM_...).
std::uint16_t elf_machine() noexcept;

// With vector registers and the state of floating point arithmetic kept: run(a, registers), where registers->vectors shows
// them.
using WithVectors = void (*)(void (*run)(void*, Registers*), void* a, Registers* registers);
WithVectors with_vectors() noexcept;

// The stack pointer of the thread when it came to the stub whose frame holds `registers`: below it lies the red zone.
inline std::uint64_t stack_at_stub(const Registers* registers) noexcept {
    constexpr std::size_t red_zone = 128;
    return reinterpret_cast<std::uintptr_t>(registers + 1) + red_zone;
}

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
