// SPDX-License-Identifier: MIT
#include <dynfunc/result.hpp>

#include <cstdio>
#include <system_error>

namespace dynfunc {
namespace {

const char* cause(Errc code) noexcept {
    switch (code) {
        case Errc::out_of_reach:
            return "the target is out of reach of a direct branch";
        case Errc::bytes_changed:
            return "foreign bytes stand where the library's instruction should be";
        case Errc::no_null_target:
            return "a null target needs a result that can be value-initialised";
        case Errc::foreign_key:
            return "the function, key or tracepoint belongs to another copy or version of the library, or to none";
        case Errc::empty_batch:
            return "the batch is empty";
        case Errc::duplicate_in_batch:
            return "the same function, key or tracepoint stands twice in the batch";
        case Errc::count_out_of_range:
            return "the static key's count would leave its range (a decrement without an increment?)";
        case Errc::already_attached:
            return "the same function with the same data is attached to this tracepoint already";
        case Errc::no_callback:
            return "the callback is null";
        case Errc::out_of_memory:
            return "out of memory or of memory mappings";
        case Errc::text_not_writable:
            return "the system refuses to let this code be written";
        case Errc::sync_failed:
            return "the system refuses to synchronise running cores with changed code";
        case Errc::capacity_out_of_range:
            return "the pool's capacity is zero, more than 16777214, or more bytes than there are addresses";
        case Errc::bad_alignment:
            return "the alignment is no power of two, or less than the type needs";
        case Errc::not_an_instruction:
            return "the bytes are no instruction, or nothing here can read them";
        case Errc::not_movable:
            return "the instruction cannot be moved to another place";
        case Errc::exclusive_access:
            return "it stands between a load-exclusive and its store-exclusive: with a probe there, the store never succeeds";
        case Errc::landing_pad:
            return "indirect branches may come there, and on this page to no jump";
        case Errc::no_unwind_table:
            return "the object has no unwind table that says where its functions are";
        case Errc::too_short:
            return "there is no room for a jump";
        case Errc::branch_inside:
            return "a branch leads into the instructions that a jump would replace";
        case Errc::call_inside:
            return "a call among the instructions that a jump would replace comes back to where it would stand";
        case Errc::no_symbol:
            return "no loaded object exports such a symbol";
        case Errc::not_executable:
            return "no code of a loaded object stands there";
        case Errc::inside_library:
            return "this code runs at every hit of a probe";
        case Errc::denied:
            return "this function cannot be probed (it unwinds stacks, returns from signal handlers or, for a return probe, "
                   "looks at its caller)";
        case Errc::patched_place:
            return "the instruction is one that this library has changed, or changes, itself";
        case Errc::middle_of_instruction:
            return "it is the middle of an instruction";
        case Errc::foreign_breakpoint:
            return "a breakpoint of somebody else (a debugger, the kernel) stands there";
        case Errc::not_a_function:
            return "what stands there is not entered by a call";
        case Errc::no_free_register:
            return "the function's arguments leave no register that a wrap could use";
        case Errc::signal_blocked:
            return "only a breakpoint fits there, and a thread of this process blocks SIGTRAP: it would die there "
                   "(AllowBreakpoint::always attaches all the same)";
        case Errc::copied_half_way:
            return "this process was made by a raw clone while a thread of its parent attached or detached probes";
        case Errc::no_sequences:
            return "restartable sequences are not to be had in this process";
        case Errc::no_unwind_entry:
            return "the unwind table does not say where the function ends";
        case Errc::not_loaded:
            return "no such executable or shared object is loaded, or not any more";
        case Errc::file_changed:
            return "the file is no longer the one that was loaded";
        case Errc::file_not_readable:
            return "the file cannot be read";
        case Errc::not_elf:
            return "the file is no ELF executable or shared object";
        case Errc::other_machine:
            return "the ELF file is of another machine";
        case Errc::elf_truncated:
            return "the ELF file ends before what its headers announce";
        case Errc::elf_segments:
            return "the ELF file's segments are none, overlap, do not ascend, or are larger than any address space";
    }
    return "unknown error";
}

}  // namespace

std::string Error::message() const {
    std::string text = cause(code);
    char number[48];
    if (address) {
        std::snprintf(number, sizeof number, " at %#zx", static_cast<std::size_t>(address.value));
        text += number;
    }
    for (std::size_t i = 0; i < code_size; ++i) {
        std::snprintf(number, sizeof number, "%s%02x", i == 0 ? ", where there is " : " ",
                      std::to_integer<unsigned>(code_bytes[i]));
        text += number;
    }
    if (element != 0) {
        std::snprintf(number, sizeof number, ", element %zu of the batch", element);
        text += number;
    }
    if (os_error != 0) {
        std::snprintf(number, sizeof number, " (errno %d)", os_error);
        text += ": " + std::generic_category().message(os_error) + number;
    }
    return text;
}

}  // namespace dynfunc
