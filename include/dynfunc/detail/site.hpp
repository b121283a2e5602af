// SPDX-License-Identifier: MIT
// Picks the inline call and branch sites of the machine.
//
// Each site header defines, for `template <class Place, class Sig> struct Site`:
//     call_address()  what a call site calls: a constant (the trampoline), or the key's pointer of this moment
// and has the trampoline, its stub and its record emitted in every DSO in which call_address() is used. `Place` is a type that
// names a Jump: the tag of a dynamic function, or one of a tracepoint's two.
//
// It may define DYNFUNC_DETAIL_BRANCH, for branch.hpp: the instruction of a branch site as linked, at the label
// .Ldynfunc_site%=. Without it, branches load the key and test it.
#pragma once

#include <dynfunc/detail/machine.hpp>

#include <dynfunc/detail/name.hpp>
#include <dynfunc/detail/registrar.hpp>
#include <dynfunc/detail/signature.hpp>

namespace dynfunc::detail {

// Maps a tag type to the object that it tags: the result type of dynfunc_key_of(Tag*), found by argument-dependent lookup.
template <auto* tagged>
struct KeyConstant {
    static constexpr auto* object = tagged;
};

template <class Tag>
using Key = decltype(dynfunc_key_of(static_cast<Tag*>(nullptr)));

// Of the key that is being defined; `self` is its address.
template <class Tag>
consteval KeyIdentity identity_of(const char* file, unsigned line, const char* signature, void* self) {
    return {.name = Name<Tag>::text.data(),
            .file = file,
            .signature = signature,
            .registrar = &emit_registrar,
            .line = line,
            .abi = abi_version,
            .owner = nullptr,
            .self = self};
}

// The address of what sites ask: the object itself, whose first member that is, or a part of it.
template <class Place>
struct PlaceAddress {
    static constexpr const void* value = Key<Place>::object;
};

// The assembly can name this word, which is hidden; not every compiler lets it name a key that another DSO may define.
template <class Place>
struct DYNFUNC_HIDDEN KeyWord {
    [[gnu::used]] DYNFUNC_HIDDEN static constexpr const void* word = PlaceAddress<Place>::value;
};

}  // namespace dynfunc::detail

// The data of a trampoline, the same on every machine: its slot, which starts at the stub, and its record. Stands in assembly
// in which %c0 is the trampoline, %c1 the word with the key's address, %c2 the size of a record.
#define DYNFUNC_DETAIL_SLOT_AND_RECORD                            \
    ".pushsection dynfunc_slots,\"awG\",@progbits,%c0,comdat\n"   \
    ".p2align 3\n"                                                \
    ".Ldynfunc_slot%=:\n"                                         \
    " .quad .Ldynfunc_stub%=\n"                                   \
    ".popsection\n"                                               \
    ".pushsection dynfunc_records,\"awG\",@progbits,%c0,comdat\n" \
    ".p2align 3\n"                                                \
    " .quad .Ldynfunc_slot%=, %c1, .Ldynfunc_code%=\n"            \
    " .zero %c2-24\n"                                             \
    ".popsection\n"

#include DYNFUNC_DETAIL_OF_MACHINE(site)

#undef DYNFUNC_DETAIL_SLOT_AND_RECORD
