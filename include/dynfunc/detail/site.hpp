// SPDX-License-Identifier: MIT
// Picks the inline call site of the machine. The only place that asks which machine this is.
//
// Each site header defines, for `template <class Tag, class Sig> struct Site`:
//     call_address()  what a call site calls: a constant (the trampoline), or the key's pointer of this moment
// and has the trampoline, its stub and its record emitted in every DSO in which call_address() is used.
#pragma once

#include <dynfunc/detail/config.hpp>

// How assembly is given the address of a hidden symbol: arm64's "i" refuses symbols in position-independent code.
#if defined(__aarch64__)
#define DYNFUNC_DETAIL_SYMBOL "S"
#else
#define DYNFUNC_DETAIL_SYMBOL "i"
#endif

#include <dynfunc/detail/registrar.hpp>
#include <dynfunc/detail/signature.hpp>

namespace dynfunc::detail {

// Maps a tag type to the object that it tags: the result type of dynfunc_key_of(Tag*), found by argument-dependent lookup.
template <auto* object>
struct KeyConstant {
    static constexpr const void* address = object;
};

template <class Tag>
inline constexpr const void* key_address = decltype(dynfunc_key_of(static_cast<Tag*>(nullptr)))::address;

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

#if DYNFUNC_GENERIC_SITES
#include <dynfunc/detail/site_generic.hpp>
#elif defined(__x86_64__)
#include <dynfunc/detail/site_x86.hpp>
#elif defined(__aarch64__)
#include <dynfunc/detail/site_arm64.hpp>
#else
#include <dynfunc/detail/site_generic.hpp>
#endif

#undef DYNFUNC_DETAIL_SLOT_AND_RECORD
