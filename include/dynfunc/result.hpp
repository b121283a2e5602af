// SPDX-License-Identifier: MIT
// What a function that can be refused gives back: a value, or an Error that names the cause and the address.
//
//     if (auto done = crc.retarget(&crc_hw); !done)
//         std::fprintf(stderr, "crc stays portable: %s\n", done.error().message().c_str());
//
// Refusals of the system and of the input are values, never exceptions and never log lines. Whoever gets one may go on: the
// operation changed nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

#include <dynfunc/address.hpp>
#include <dynfunc/detail/export.hpp>

namespace dynfunc {

enum class Errc : std::uint8_t {
    out_of_reach,           // the instruction cannot encode a branch that far
    bytes_changed,          // foreign bytes stand where our instruction should be (a debugger's breakpoint, another patcher)
    no_null_target,         // a null target needs a result that can be value-initialised
    foreign_key,            // the function, key or tracepoint belongs to another copy or version of this library, or to none
    empty_batch,            // a batch without elements
    duplicate_in_batch,     // the same function, key or tracepoint twice in one batch
    count_out_of_range,     // more decrements than increments, or too many increments
    already_attached,       // the same function with the same data is attached to the tracepoint already
    no_callback,            // the callback is null
    out_of_memory,          // no memory, or no room for another mapping
    text_not_writable,      // the system refuses every way to write this code
    sync_failed,            // the system refuses to make running cores see new code
    capacity_out_of_range,  // a pool of no objects, or of too many
    bad_alignment,          // no power of two, or less than the type needs
    not_an_instruction,     // the bytes there are none, or nothing here can read them
    not_movable,            // an instruction that can run nowhere else
    exclusive_access,       // between a load-exclusive and its store-exclusive, where a probe makes the store fail
    landing_pad,            // where an indirect branch may come, on a page where it may come to no jump
    no_unwind_table,        // an object that does not say where its functions are
    too_short,              // no room for a jump: the instruction, or the function, ends before
    branch_inside,          // a branch leads into instructions that would have to move
    call_inside,            // a call among them would come back to where the jump stands
    no_symbol,              // no loaded object exports such a name
    not_executable,         // no code of a loaded object stands there
    inside_library,         // the code that this library runs at every hit of a probe
    denied,                 // a function that cannot be probed
    patched_place,          // an instruction that this library changes itself; of probes and wraps: what the other has changed
    middle_of_instruction,  // an instruction begins before it, and ends behind
    foreign_breakpoint,     // somebody else's breakpoint stands there: a debugger's, the kernel's
    not_a_function,         // what stands there is not entered by a call
    no_free_register,       // the function's arguments leave none that a wrap could use
    signal_blocked,         // a thread blocks the signal of a breakpoint, and would die there
    copied_half_way,        // this process was made by a raw clone while another thread attached or detached probes
    no_sequences,           // restartable sequences were asked for and are not to be had
    no_unwind_entry,        // a function of which the unwind table does not say where it ends
    not_loaded,             // no such executable or shared object is loaded, or not any more
    file_changed,           // the file of a loaded object is no longer what was loaded
    file_not_readable,      // the system refuses to let the file be read, or mapped
    not_elf,                // a file that is no ELF file, or is no executable and no shared object
    other_machine,          // an ELF file of a machine that this build does not know
    elf_truncated,          // an ELF file that ends before what its headers announce
    elf_segments,           // an ELF file whose segments cannot be loaded as its headers say
};

struct Error {
    Errc code{};
    Address address{};        // where: the function, the instruction or the page; null if there is no such place
    int os_error = 0;         // errno of the refusing system call, or 0
    std::size_t element = 0;  // which element of a batch
    // Of refused code: what stands at `address`; none where it cannot be read, or was not looked at.
    std::array<std::byte, 8> code_bytes{};
    std::uint8_t code_size = 0;

    // One line for people: cause, address, bytes, errno in words.
    // Throws: std::bad_alloc.
    DYNFUNC_EXPORT std::string message() const;
};

template <class T>
using Result = std::expected<T, Error>;

}  // namespace dynfunc
