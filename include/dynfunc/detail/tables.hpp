// SPDX-License-Identifier: MIT
// The linker-section records by which an executable or shared object (a DSO) tells the library of its dynamic functions, and
// the one call by which it hands them over. Every type here is part of the binary interface: a change raises abi_version.
//
//     section             one entry per                         written by
//     dynfunc_keys        DYNFUNC definition                    the compiler (a Function object)
//     dynfunc_records     trampoline of this DSO                the assembly in site_<machine>.hpp
//     dynfunc_text        trampoline of this DSO                the same: what calls run
//     dynfunc_slots       trampoline of this DSO                the same: what the slot form loads
//
// What calls touch is packed: the text apart from the slots, the slots apart from the records that only the library reads.
//
// A function that ten DSOs call has one key, in the DSO that defines it, and ten trampolines with ten records.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

inline constexpr std::uint32_t abi_version = 1;

struct FunctionKey;

enum class TrampolineState : std::uint64_t {
    unbound,   // not announced yet, or its key belongs to another copy or version of the library: asks the key at every call
    asks_key,  // the same, because this process is to write nothing but keys
    slot,      // jumps through its slot, because this process cannot patch or is not to
    slot_far,  // jumps through its slot, because the target is out of reach of a direct jump
    slot_foreign,  // jumps through its slot, because foreign bytes stood in it from the start
    slot_refused,  // jumps through its slot, because its text could not be written at the start
    patched,       // jumps straight to the target
};

// One trampoline. The first three words are filled by the assembler and the linker, the rest by the library.
struct TrampolineRecord {
    void** slot;             // what the trampoline's slot form jumps through; initially it holds the stub, which asks the key
    const void* const* key;  // address of a word that holds the address of the FunctionKey
    void* code;              // the word of the trampoline that is patched: 8-byte aligned
    TrampolineRecord* next;  // the next trampoline of the same key
    std::uint64_t original;  // the slot form, as linked
    std::uint64_t current;   // what the library wrote last
    TrampolineState state;
};
static_assert(sizeof(TrampolineRecord) == 56);

struct Tables;

// The truth about one dynamic function. `P` is the function's own pointer type where the definition initialises it (so that it
// is constant-initialised, correct before any code runs) and void* where the library reads it.
//
// INV-callable-target: `target` is never null; it is `null_target` where the user's target is null.
template <class P>
struct alignas(128) BasicFunctionKey {  // own cache lines; size = alignment, so that a linker section is an array
    P target;
    P null_target;     // value-initialises the result; null if the result type cannot be
    P default_target;  // as declared; null_target where that is null
    const char* name;  // qualified: "codec::crc"
    const char* file;
    const char* signature;  // as written at the definition
    void (*registrar)();    // only named here, so that whoever defines a function brings the registrar along
    std::uint32_t line;
    std::uint32_t abi;  // abi_version; zero in the section's first, empty entry
    bool returns_void;
    bool in_batch;  // from here on: the library's, under its lock
    TrampolineRecord* trampolines;
    const void* owner;  // the copy of the library that serves this key
    void* self;         // where its name leads: elsewhere if the linker copied the key into the program
};

struct FunctionKey : BasicFunctionKey<void*> {};
static_assert(sizeof(FunctionKey) == 128);

// One DSO.
struct Tables {
    std::uint32_t abi;
    TrampolineRecord *records, *records_end;
    FunctionKey *keys, *keys_end;
    Tables *previous, *next;    // the library's from here on
    std::uintptr_t begin, end;  // where the DSO is mapped
    const void* owner;
};

// Called by each DSO's own start-up and finish code, once each; never by hand.
// Threads:  any, from constructors and destructors only.
// Errors:   none. What cannot be patched stays in the form that asks the key, and introspection says why.
DYNFUNC_EXPORT void enter_dso(Tables& tables) noexcept;
DYNFUNC_EXPORT void leave_dso(Tables& tables) noexcept;

}  // namespace dynfunc::detail
