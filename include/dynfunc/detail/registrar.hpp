// SPDX-License-Identifier: MIT
// How a DSO announces its tables: one pair of .init_array / .fini_array entries per DSO, in a section group of their own, so
// that the linker keeps one however many files use dynamic functions, and none in a DSO that uses none.
//
// Priority 101 puts it before the DSO's ordinary constructors and after its ordinary destructors. Nothing depends on that:
// an unannounced trampoline asks its key at every call.
#pragma once

#include <dynfunc/detail/tables.hpp>

extern "C" {
// Made by the linker; hidden: each DSO sees its own.
DYNFUNC_HIDDEN extern dynfunc::detail::TrampolineRecord __start_dynfunc_records[];
DYNFUNC_HIDDEN extern dynfunc::detail::TrampolineRecord __stop_dynfunc_records[];
DYNFUNC_HIDDEN extern dynfunc::detail::FunctionKey __start_dynfunc_keys[];
DYNFUNC_HIDDEN extern dynfunc::detail::FunctionKey __stop_dynfunc_keys[];
}

namespace dynfunc::detail {

DYNFUNC_HIDDEN inline constinit Tables dso_tables{abi_version,
                                                  __start_dynfunc_records,
                                                  __stop_dynfunc_records,
                                                  __start_dynfunc_keys,
                                                  __stop_dynfunc_keys,
                                                  nullptr,
                                                  nullptr,
                                                  0,
                                                  0,
                                                  nullptr};

[[gnu::used]] DYNFUNC_HIDDEN inline void enter_this_dso() { enter_dso(dso_tables); }
[[gnu::used]] DYNFUNC_HIDDEN inline void leave_this_dso() { leave_dso(dso_tables); }

// Emits the entries where it is instantiated or referred to; never called. Each table gets one empty entry, so that both
// sections exist in every DSO that has the registrar.
[[gnu::used, gnu::noinline]] DYNFUNC_HIDDEN inline void emit_registrar() {
    asm volatile(
        ".pushsection .init_array.00101,\"awG\",@init_array,dynfunc_registrar,comdat\n"
        ".p2align 3\n"
        ".quad %c0\n"
        ".popsection\n"
        ".pushsection .fini_array.00101,\"awG\",@fini_array,dynfunc_registrar,comdat\n"
        ".p2align 3\n"
        ".quad %c1\n"
        ".popsection\n"
        ".pushsection dynfunc_records,\"awG\",@progbits,dynfunc_registrar,comdat\n"
        ".p2align 3\n"
        ".zero %c2\n"
        ".popsection\n"
        ".pushsection dynfunc_keys,\"awG\",@progbits,dynfunc_registrar,comdat\n"
        ".p2align 7\n"
        ".weak dynfunc_registrar\n"
        ".hidden dynfunc_registrar\n"
        "dynfunc_registrar:\n"
        ".zero %c3\n"
        ".popsection\n" ::DYNFUNC_DETAIL_SYMBOL(&enter_this_dso),
        DYNFUNC_DETAIL_SYMBOL(&leave_this_dso), "i"(sizeof(TrampolineRecord)), "i"(sizeof(FunctionKey)));
}

}  // namespace dynfunc::detail
