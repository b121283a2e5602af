// SPDX-License-Identifier: MIT
// The linker-section records by which an executable or shared object (a DSO) tells the library what it has, and the one call by
// which it hands them over. Every type here is part of the binary interface: a change raises abi_version.
//
//     section               one entry per                         written by
//     dynfunc_keys          DYNFUNC definition                    the compiler (a Function object)
//     dynfunc_static_keys   DYNFUNC_STATIC_KEY_... definition     the compiler (a StaticKey object)
//     dynfunc_tracepoints   DYNFUNC_TRACEPOINT definition         the compiler (a Tracepoint object)
//     dynfunc_records       trampoline of this DSO                the assembly in site_<machine>.hpp
//     dynfunc_branches      branch site of this DSO               the same
//     dynfunc_text          trampoline of this DSO                the same: what calls run
//     dynfunc_slots         trampoline of this DSO                the same: what the slot form loads
//     dynfunc_chains        tracepoint defined in this DSO        the same: room for the code that calls several callbacks
//
// What calls touch is packed: the text apart from the slots, the slots apart from the records that only the library reads.
//
// What ten DSOs use has one key, in the DSO that defines it, and ten trampolines, or any number of sites, with their records.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/arguments.hpp>
#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

inline constexpr std::uint16_t abi_version = 3;

struct TrampolineRecord;
struct BranchRecord;

// What the library knows of every key, whatever it is the key of.
struct KeyIdentity {
    const char* name;  // qualified: "codec::crc"
    const char* file;
    const char* signature;  // as written at the definition
    void (*registrar)();    // only named here, so that whoever defines a key brings the registrar along
    std::uint32_t line;
    std::uint16_t abi;  // abi_version; zero in the section's first, empty entry
    const void* owner;  // the copy of the library that serves this key; from here on: the library's, under its lock
    void* self;         // where its name leads: elsewhere if the linker copied the key into the program
};
static_assert(sizeof(KeyIdentity) == 56);

// The truth about where a set of trampolines leads. `P` is the typed function pointer where a definition initialises it (so
// that it is constant-initialised, correct before any code runs) and void* where the library reads it.
//
// INV-callable-target: `target` is never null; it is `null_target` where the user's target is null.
template <class P>
struct BasicJump {
    P target;
    P null_target;                  // value-initialises the result; null if the result type cannot be
    TrampolineRecord* trampolines;  // the library's
    std::uint32_t identity_at;      // bytes from here to the key's KeyIdentity
    std::uint16_t abi;
    bool returns_void;
    bool in_batch;          // the library's
    std::uint64_t changed;  // the library's: whether it was ever led elsewhere
};
using Jump = BasicJump<void*>;
static_assert(sizeof(Jump) == 40);

// The truth about which way a set of branch sites goes.
struct BranchKey {
    std::uintptr_t enabled;     // 0 or 1; tracepoints: whether anybody listens
    BranchRecord* sites;        // the library's
    std::uint32_t identity_at;  // bytes from here to the key's KeyIdentity
    std::uint16_t abi;
    bool in_batch;  // the library's
};
static_assert(sizeof(BranchKey) == 24);

enum class TrampolineState : std::uint64_t {
    unbound,   // not announced yet, or its key belongs to another copy or version of the library: asks the key at every call
    asks_key,  // the same, because this process is to write nothing but keys
    slot,      // jumps through its slot, because this process cannot patch or is not to
    slot_far,  // jumps through its slot, because the target is out of reach of a direct jump
    slot_foreign,  // jumps through its slot, because foreign bytes stood in it from the start
    slot_refused,  // jumps through its slot, because its text could not be written at the start
    patched,       // jumps straight to the target
};

struct Tables;

// One trampoline. The first three words are filled by the assembler and the linker, the rest by the library.
struct TrampolineRecord {
    void** slot;             // what the trampoline's slot form jumps through; initially it holds the stub, which asks the key
    const void* const* key;  // address of a word that holds the address of the Jump
    void* code;              // the word of the trampoline that is patched: 8-byte aligned
    TrampolineRecord* next;  // the next trampoline of the same key
    std::uint64_t original;  // the slot form, as linked
    std::uint64_t current;   // what the library wrote last
    TrampolineState state;
    Tables* object;             // which has it
    std::uint32_t first_site;   // of the places that may be calls of it, in the object's table of them, which is counted from 1
    std::uint32_t was_written;  // whether anything but `original` ever stood there: its page is no longer the file's
};
static_assert(sizeof(TrampolineRecord) == 72);

enum class BranchState : std::uint64_t {
    unbound,  // not announced yet, or its key belongs to another copy or version of the library: tests the key every time
    tests,    // the same, because this process cannot patch or is not to
    foreign,  // the same, because foreign bytes stood at the site from the start
    refused,  // the same, because its text could not be written at the start
    patched,  // a nop, or a jump to where its key says
};

// One branch site: an instruction in the middle of ordinary code. As linked it jumps to code that loads the key and tests it.
// The numbers are distances, each from its own field.
struct BranchRecord {
    std::int32_t site;
    std::array<std::int32_t, 2> targets;  // where it leads while its key is disabled, enabled; 0: to the next instruction
    std::int32_t key;                     // a word that holds the address of the BranchKey
    BranchRecord* next;                   // the next site of the same key; from here on: the library's
    std::uint64_t current;                // what stands at the site, in its low bytes
    BranchState state;
};
static_assert(sizeof(BranchRecord) == 40);

// A dynamic function.
template <class P>
struct alignas(128) BasicFunctionKey {  // own cache lines; size = alignment, so that a linker section is an array
    BasicJump<P> jump;
    P default_target;  // as declared; null_target where that is null
    KeyIdentity identity;
};
struct FunctionKey : BasicFunctionKey<void*> {};
static_assert(sizeof(FunctionKey) == 128);

struct alignas(64) StaticKeyData {
    BranchKey branch;
    std::uint64_t count;  // enabled while it is not 0; the library's, under its lock
    KeyIdentity identity;
};
static_assert(sizeof(StaticKeyData) == 128);

// Functions that the compiler makes for each tracepoint, where it is defined.
enum class TraceFunction : std::uint8_t {
    deliver,  // void(A...): goes through the inner trampoline, inside a ReadSection
    iterate,  // void(A...): calls each entry of the key's list in turn
    relay,    // void(A..., void* data): calls a Pattern's callback with a TraceEvent
};

enum class ParameterKind : std::uint8_t {
    other,
    boolean,
    character,
    signed_integer,
    unsigned_integer,
    floating_point,
    pointer,
    string_view,
    string,
};

// One parameter of a tracepoint, without const and reference.
struct Parameter {
    const char* type;  // as the compiler spells it
    ParameterKind kind;
    std::uint32_t size;  // 0: a type that is not complete
};

struct CallbackList;

template <class P>
struct alignas(64) BasicTracepointKey {
    BranchKey branch;
    BasicJump<P> outer;        // from the sites: returns, a plain function that is never unloaded, or `deliver`
    BasicJump<P> inner;        // from `deliver`, in a section: returns, a function, generated code, or `iterate`
    const CallbackList* list;  // what iterate walks; null: nobody listens
    void* (*function)(TraceFunction) noexcept;
    ArgumentPlaces (*places)() noexcept;
    const Parameter* parameters;
    std::uint64_t parameter_count;
    void (*chain_part)();  // room in dynfunc_chains; only named here, so that the linker keeps it
    void (*chain_base)();
    void (*emit_room)();  // the same, for the compiler
    std::uint64_t cut;    // events that were not delivered because they were nested too deeply
    KeyIdentity identity;
};
struct TracepointKey : BasicTracepointKey<void*> {};
static_assert(sizeof(TracepointKey) == 256);

// One DSO.
struct Tables {
    std::uint32_t abi;
    TrampolineRecord *records, *records_end;
    BranchRecord *branches, *branches_end;
    FunctionKey *functions, *functions_end;
    StaticKeyData *static_keys, *static_keys_end;
    TracepointKey *tracepoints, *tracepoints_end;
    const std::byte *chains, *chains_end;
    Tables *previous, *next;    // the library's from here on
    std::uintptr_t begin, end;  // where the DSO is mapped
    const void* owner;
    void* chain_area;
    void* call_sites;
};

// Called by each DSO's own start-up and finish code, once each; never by hand.
// Threads:  any, from constructors and destructors only.
// Errors:   none. What cannot be patched stays in the form that asks the key, and introspection says why.
DYNFUNC_EXPORT void enter_dso(Tables& tables) noexcept;
DYNFUNC_EXPORT void leave_dso(Tables& tables) noexcept;

}  // namespace dynfunc::detail
