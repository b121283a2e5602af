// SPDX-License-Identifier: MIT
// How a DSO announces its tables: one pair of .init_array / .fini_array entries per DSO, in a section group of their own, so
// that the linker keeps one however many files use the library, and none in a DSO that does not.
//
// Priority 101 puts it before the DSO's ordinary constructors and after its ordinary destructors. Nothing depends on that:
// an unannounced trampoline or branch site asks its key every time.
#pragma once

#include <dynfunc/detail/machine.hpp>
#include <dynfunc/detail/tables.hpp>

extern "C" {
// Made by the linker; hidden: each DSO sees its own.
#define DYNFUNC_DETAIL_TABLE(type, section)       \
    DYNFUNC_HIDDEN extern type __start_##section; \
    DYNFUNC_HIDDEN extern type __stop_##section
DYNFUNC_DETAIL_TABLE(dynfunc::detail::TrampolineRecord, dynfunc_records[]);
DYNFUNC_DETAIL_TABLE(dynfunc::detail::BranchRecord, dynfunc_branches[]);
DYNFUNC_DETAIL_TABLE(dynfunc::detail::FunctionKey, dynfunc_keys[]);
DYNFUNC_DETAIL_TABLE(dynfunc::detail::StaticKeyData, dynfunc_static_keys[]);
DYNFUNC_DETAIL_TABLE(dynfunc::detail::TracepointKey, dynfunc_tracepoints[]);
DYNFUNC_DETAIL_TABLE(const std::byte, dynfunc_chains[]);
#undef DYNFUNC_DETAIL_TABLE
}

namespace dynfunc::detail {

DYNFUNC_HIDDEN inline constinit Tables dso_tables{.abi = abi_version,
                                                  .records = __start_dynfunc_records,
                                                  .records_end = __stop_dynfunc_records,
                                                  .branches = __start_dynfunc_branches,
                                                  .branches_end = __stop_dynfunc_branches,
                                                  .functions = __start_dynfunc_keys,
                                                  .functions_end = __stop_dynfunc_keys,
                                                  .static_keys = __start_dynfunc_static_keys,
                                                  .static_keys_end = __stop_dynfunc_static_keys,
                                                  .tracepoints = __start_dynfunc_tracepoints,
                                                  .tracepoints_end = __stop_dynfunc_tracepoints,
                                                  .chains = __start_dynfunc_chains,
                                                  .chains_end = __stop_dynfunc_chains,
                                                  .previous = nullptr,
                                                  .next = nullptr,
                                                  .begin = 0,
                                                  .end = 0,
                                                  .owner = nullptr,
                                                  .chain_area = nullptr,
                                                  .call_sites = nullptr};

[[gnu::used]] DYNFUNC_HIDDEN inline void enter_this_dso() { enter_dso(dso_tables); }
[[gnu::used]] DYNFUNC_HIDDEN inline void leave_this_dso() { leave_dso(dso_tables); }

// An empty entry, so that the section exists in every DSO that has the registrar.
#define DYNFUNC_DETAIL_EMPTY_ENTRY(section, flags, alignment, content)                                            \
    ".pushsection " section ",\"" flags "\",@progbits,dynfunc_registrar,comdat\n.p2align " alignment "\n" content \
    "\n.popsection\n"
#ifdef DYNFUNC_DETAIL_FRAME_RULE
#define DYNFUNC_DETAIL_EMPTY_CHAIN ".cfi_startproc\n" DYNFUNC_DETAIL_FRAME_RULE ".zero 16\n.cfi_endproc"
#else
#define DYNFUNC_DETAIL_EMPTY_CHAIN ".zero 16"
#endif

// Emits the entries where it is instantiated or referred to; never called.
[[gnu::used, gnu::noinline]] DYNFUNC_HIDDEN inline void emit_registrar() {
    asm volatile(
        ".pushsection .init_array.00101,\"awG\",@init_array,dynfunc_registrar,comdat\n"
        ".p2align 3\n"
        ".quad " DYNFUNC_DETAIL_BARE(0) "\n"
        ".popsection\n"
        ".pushsection .fini_array.00101,\"awG\",@fini_array,dynfunc_registrar,comdat\n"
        ".p2align 3\n"
        ".weak dynfunc_registrar\n"
        ".hidden dynfunc_registrar\n"
        "dynfunc_registrar:\n"
        ".quad " DYNFUNC_DETAIL_BARE(1) "\n"
        ".popsection\n"                                                                                    //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_records", "awG", "3", ".zero " DYNFUNC_DETAIL_BARE(2))         //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_branches", "awG", "3", ".zero " DYNFUNC_DETAIL_BARE(3))        //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_keys", "awG", "7", ".zero " DYNFUNC_DETAIL_BARE(4))            //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_static_keys", "awG", "6", ".zero " DYNFUNC_DETAIL_BARE(5))     //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_tracepoints", "awG", "6", ".zero " DYNFUNC_DETAIL_BARE(6))     //
        DYNFUNC_DETAIL_EMPTY_ENTRY("dynfunc_chains", "axG", "4", DYNFUNC_DETAIL_EMPTY_CHAIN)               //
        ::DYNFUNC_DETAIL_SYMBOL(&enter_this_dso),
        DYNFUNC_DETAIL_SYMBOL(&leave_this_dso), "i"(sizeof(TrampolineRecord)), "i"(sizeof(BranchRecord)),
        "i"(sizeof(FunctionKey)), "i"(sizeof(StaticKeyData)), "i"(sizeof(TracepointKey)));
}

#undef DYNFUNC_DETAIL_EMPTY_CHAIN
#undef DYNFUNC_DETAIL_EMPTY_ENTRY

}  // namespace dynfunc::detail
