// SPDX-License-Identifier: MIT
// All machine knowledge the library has, behind one interface. Each folder (x86, arm64, generic) defines the same functions in
// a namespace of its own; the build names one of them in DYNFUNC_ARCH and everything above says arch::… and means that one.
// Upper layers ask for a capability, never for a machine. A new machine is one folder and one site header.
//
// encode.cpp is pure and is built for every machine on every machine, so that it can be tested anywhere.
// native.cpp and probe.S touch the machine and are built only on it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <dynfunc/result.hpp>

namespace dynfunc::arch {

// What stands at a site, with a target and without one:
//     kind         target set       no target (Address{})
//     call         call target      nop
//     tail_call    jump target      return
//     branch       jump target      nop
enum class SiteKind : std::uint8_t { call, tail_call, branch };

// The bytes of one site, in memory order; as many as `Capabilities::site_bytes`, so that a shorter instruction is padded with
// bytes that are never reached.
struct Instruction {
    std::array<std::byte, 8> bytes{};
    std::uint8_t size = 0;

    std::span<const std::byte> span() const noexcept { return std::span(bytes).first(size); }
    friend bool operator==(const Instruction&, const Instruction&) = default;
};

struct Capabilities {
    bool patches_text;         // false: the functions below encode nothing and the library only ever stores pointers
    std::size_t site_bytes;    // size of an instruction at a site: 5 on x86, 4 on arm64
    std::size_t word_bytes;    // a site inside one aligned word of this size is replaced by one store: 8 on x86, 4 on arm64
    std::size_t copied_bytes;  // of running code the kernel may copy so many at once, aligned: each word is fetched old or new
    std::uint8_t integer_registers, vector_registers;  // that carry arguments
    bool swaps_return;             // a running jump may be replaced by a return and back, as it may be by another jump
    std::uint8_t slot_jump_bytes;  // size of a trampoline's slot form
    std::uint8_t reference_bytes;  // size of what changes of a direct branch: its distance, or all of it; 0: the functions
                                   // below find none
    std::ptrdiff_t reach_back, reach_ahead;  // farthest encodable target, counted from the site's address
};

// Which registers and stack words carry the arguments of a signature (dynfunc/detail/arguments.hpp). A register that carries
// none may be counted as one that does; never the other way round.
struct ArgumentLayout {
    std::uint8_t integers;      // general registers: the first so many of the convention's order
    std::uint8_t vectors;       // vector registers, 16 bytes of each
    bool data_in_register;      // a pointer behind the parameters is passed in general register number `integers`, otherwise
                                // in word `stack_words` of the stack
    std::uint16_t stack_words;  // 8-byte words

    friend bool operator==(const ArgumentLayout&, const ArgumentLayout&) = default;
};

// One callee of a chain.
struct ChainCall {
    Address function;
    std::uint64_t data;  // passed behind the arguments, if `has_data`
    bool has_data;
    std::uint64_t* hits;  // counted up by one, atomically, before the call; may be null
};

// A place in code that looks like what changes of a direct branch.
struct Reference {
    Address field;
    bool is_branch;            // an instruction stands there, and it is a direct branch
    bool behind_trap = false;  // a breakpoint stands on it or in front of it: once that is gone, it may be a branch after all
};

// Code of the library's own on which start-up tries whether patched text is executed: `run` jumps at `site` to `first`, which
// returns 1, until the site is patched to reach `second`, which returns 2.
struct ProbeCode {
    int (*run)();
    Address site, first, second;
};

// The machine of this build is `namespace dynfunc::arch::DYNFUNC_ARCH`.
namespace DYNFUNC_ARCH {

const Capabilities& capabilities() noexcept;

// The instruction for `site` to reach `target`. Pure: touches no memory.
// Errors: out_of_reach (address = target); text_not_writable where patches_text is false.
Result<Instruction> encode_site(SiteKind kind, Address site, Address target) noexcept;

// Whether `code` (slot_jump_bytes or more, as found at `site`) is the slot form of a trampoline: a jump through the pointer at
// `slot`.
bool is_slot_jump(std::span<const std::byte> code, Address site, Address slot) noexcept;

// Whether `code` (site_bytes or more) is a direct jump: what stands at a branch site as linked.
bool is_branch_jump(std::span<const std::byte> code) noexcept;

// A function that hands its arguments on to each of `calls` in turn, the last one by a jump where that can be: no indirect
// call, whatever is in reach. Several calls: one frame, in which the frame pointer is set up first, so that one unwind rule (of
// the frame pointer) holds at every call. One call whose data fits a register: no frame, no call. Returns how many bytes of
// `room` it took, a multiple of 16; code that runs at `runs_at` (16-byte aligned). The bytes behind the last instruction trap.
// Errors: out_of_memory where `room` is too small; text_not_writable where patches_text is false. `calls` is not empty.
Result<std::size_t> encode_chain(std::span<const ChainCall> calls, const ArgumentLayout& layout, Address runs_at,
                                 std::span<std::byte> room) noexcept;

// An upper bound of what encode_chain() takes.
std::size_t chain_bytes(std::size_t calls, const ArgumentLayout& layout) noexcept;

// The first place in `text`, at `from` or behind it, whose bytes would lead a direct branch into `window`, be it a branch or
// not; null: there is none. `window` is not empty. Reads every byte of the text once: 4 GiB/s of text that is mapped
// (measured).
Address find_reference(AddressRange text, Address from, AddressRange window) noexcept;

// Where the direct branch leads whose distance is at `field`, or that is there.
Address reference_target(Address field) noexcept;

// What has to stand at `field`, where `current` stands, for its branch to lead to `target`. Pure.
// Errors: out_of_reach (address = target); text_not_writable where reference_bytes is 0.
Result<std::uint32_t> encode_reference(Address field, std::uint32_t current, Address target) noexcept;

// Whether this build can read instructions.
bool has_decoder() noexcept;

// Reads the instructions of a function, from its first byte on, and fills in `is_branch` for each of the places in it, which
// ascend. What follows an unknown instruction is none. Without a decoder none is.
void confirm_references(AddressRange function, std::span<Reference> ascending) noexcept;

// Cache maintenance after `range` was written, before anybody is told: needed on machines whose instruction fetch does not see
// stores. `range` is the address at which the code is executed.
void flush_text(AddressRange range) noexcept;

// A function's frame as a call leaves it; DWARF's numbers of registers.
struct EntryFrame {
    std::uint64_t stack_pointer, bytes;  // the caller's frame begins so many bytes above it
    std::uint64_t return_address;        // the column of that
    bool is_return_on_stack;             // right below the caller's frame; otherwise in its register
};
EntryFrame entry_frame() noexcept;

// Whether a word that the kernel copies into running code, with whatever its copy routine has, is fetched old or new.
bool fetches_whole_copied_words() noexcept;

ProbeCode probe_code() noexcept;

// For a handler of the signal that a breakpoint raises, of its ucontext_t: where the breakpoint stands, and where the thread
// is to go on when the handler returns.
Address trapped_at(const void* context) noexcept;
void go_on_at(void* context, Address at) noexcept;

// Whether the machine has pages on which an indirect branch comes to landing pads alone.
bool guards_pages() noexcept;

// Does to the thread what the site's instruction `code` (site_bytes + 1 or more, read as if it stood at `at`) would do: a
// direct jump, call or conditional jump, a return, a nop, a jump through a pointer. False: it is none of them, or
// steps_over_sites() is false.  Threads: signal handlers.
bool step_over_site(void* context, std::span<const std::byte> code, Address at) noexcept;
bool steps_over_sites() noexcept;

// Where it begins.
Address reference_begin(Address field) noexcept;

}  // namespace DYNFUNC_ARCH

using namespace DYNFUNC_ARCH;

}  // namespace dynfunc::arch
