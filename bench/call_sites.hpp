// SPDX-License-Identifier: MIT
// What the modules written by sites.py hold, as their table `bench_sites` says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <string>
#include <string_view>

#include "callees.hpp"
#include "module.hpp"

namespace bench {

// A key of sites.py as the API sees it: all of them are functions of one type, told apart by their address.
using SiteFunction = dynfunc::Function<struct site_dynfunc_tag, Callee>;

// One kind of call at `sites` distinct places. The list ends with an entry whose kind is null.
struct SiteBlock {
    const char* kind;  // the case's id
    std::uint64_t sites;
    Callee* run;                                       // calls at every site once
    const unsigned char* callees;                      // each callee_bytes long; site i calls callee i
    const dynfunc::detail::TrampolineRecord* records;  // `sites` of them, for the kind dynfunc; else null
    SiteFunction* keys;                                // `sites` of them, for the kind dynfunc
};

constexpr std::size_t callee_bytes = 16;

// The block of this kind and size; null if the module has none.
inline const SiteBlock* find_block(const Module& module, std::string_view kind, std::uint64_t sites) {
    for (const SiteBlock* block = module.symbol<SiteBlock>("bench_sites"); block != nullptr && block->kind != nullptr; ++block)
        if (block->kind == kind && block->sites == sites) return block;
    return nullptr;
}

// The form of a block's trampolines; empty where it has none that the library knows.
inline std::string form_of(const SiteBlock& block) {
    using State = dynfunc::detail::TrampolineState;
    if (block.records == nullptr) return "";
    if (dynfunc::capabilities().form == dynfunc::Form::pointer) return to_string(dynfunc::Form::pointer);
    return to_string(State{block.records->state} == State::patched ? dynfunc::Form::patched : dynfunc::Form::slot);
}

// The layout that sites.py writes.
using Key = dynfunc::detail::FunctionKey;
using Record = dynfunc::detail::TrampolineRecord;
using Jump = dynfunc::detail::Jump;
using Identity = dynfunc::detail::KeyIdentity;
static_assert(sizeof(SiteFunction) == sizeof(Key) && sizeof(Key) == 128 && dynfunc::detail::abi_version == 2);
static_assert(offsetof(Key, jump) == 0 && offsetof(Key, default_target) == 32 && offsetof(Key, identity) == 40);
static_assert(offsetof(Jump, target) == 0 && offsetof(Jump, null_target) == 8 && offsetof(Jump, trampolines) == 16);
static_assert(offsetof(Jump, identity_at) == 24 && offsetof(Jump, abi) == 28);
static_assert(offsetof(Identity, name) == 0 && offsetof(Identity, file) == 8 && offsetof(Identity, signature) == 16);
static_assert(offsetof(Identity, line) == 32 && offsetof(Identity, abi) == 36);
static_assert(sizeof(Record) == 56 && offsetof(Record, slot) == 0 && offsetof(Record, key) == 8 &&
              offsetof(Record, code) == 16);

inline constexpr const char* sites_module = "dynfunc-bench-sites.so";

}  // namespace bench
