// SPDX-License-Identifier: MIT
// What the modules written by sites.py hold, as their table `bench_sites` says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <dynfunc/call_sites.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "callees.hpp"
#include "module.hpp"

namespace bench {

// Keys of sites.py as the API sees them: all of them are of one type, told apart by their address.
using SiteFunction = dynfunc::Function<struct site_dynfunc_tag, Callee>;
using SiteKey = dynfunc::StaticKey<struct site_key_dynfunc_tag>;

// One kind of call, or the branches of one static key, at `sites` distinct places. The list ends with an entry whose kind is
// null.
struct SiteBlock {
    const char* kind;  // the case's id
    std::uint64_t sites;
    Callee* run;                                       // calls at every site once
    const unsigned char* run_end;                      // of its code; null for the kind static-key
    const unsigned char* callees;                      // each callee_bytes long; site i calls callee i
    const dynfunc::detail::TrampolineRecord* records;  // `sites` of them, for the kinds dynfunc...; else null
    void* key;                                         // see below; null for other kinds

    SiteFunction* functions() const { return static_cast<SiteFunction*>(key); }  // `sites` of them, for the kinds dynfunc...
    SiteKey& static_key() const { return *static_cast<SiteKey*>(key); }          // for the kind static-key
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
namespace layout {

using namespace dynfunc::detail;
static_assert(abi_version == 3);
static_assert(sizeof(SiteFunction) == sizeof(FunctionKey) && sizeof(FunctionKey) == 128);
static_assert(offsetof(FunctionKey, jump) == 0 && offsetof(FunctionKey, default_target) == 40 &&
              offsetof(FunctionKey, identity) == 48);
static_assert(offsetof(Jump, target) == 0 && offsetof(Jump, null_target) == 8 && offsetof(Jump, trampolines) == 16 &&
              offsetof(Jump, identity_at) == 24 && offsetof(Jump, abi) == 28);
static_assert(sizeof(SiteKey) == sizeof(StaticKeyData) && sizeof(StaticKeyData) == 128);
static_assert(offsetof(StaticKeyData, branch) == 0 && offsetof(StaticKeyData, count) == 24 &&
              offsetof(StaticKeyData, identity) == 32);
static_assert(offsetof(BranchKey, sites) == 8 && offsetof(BranchKey, identity_at) == 16 && offsetof(BranchKey, abi) == 20);
static_assert(sizeof(KeyIdentity) == 56 && offsetof(KeyIdentity, name) == 0 && offsetof(KeyIdentity, file) == 8 &&
              offsetof(KeyIdentity, signature) == 16 && offsetof(KeyIdentity, line) == 32 && offsetof(KeyIdentity, abi) == 36);
static_assert(sizeof(TrampolineRecord) == 72 && offsetof(TrampolineRecord, slot) == 0 && offsetof(TrampolineRecord, key) == 8 &&
              offsetof(TrampolineRecord, code) == 16);
static_assert(sizeof(BranchRecord) == 40 && offsetof(BranchRecord, site) == 0 && offsetof(BranchRecord, targets) == 4 &&
              offsetof(BranchRecord, key) == 12);

}  // namespace layout

// Targets lie in the module, within reach of a direct jump from its trampolines; the program's own functions do not.
Callee* target_in(const SiteBlock& block, std::size_t i);

// Two batches of the same functions, so that turning from one to the other changes every element. An even turn leads each
// function to its neighbour's callee, an odd one to its own.
class Batches {
public:
    Batches(const SiteBlock& block, std::size_t size);
    void turn(std::size_t i) const;

private:
    std::vector<dynfunc::Retarget> there_, back_;
};

// Leads the functions elsewhere and back: from then on their call sites are known to the library.
void patch_sites_of(const SiteBlock& block);

// The call sites of the modules' functions that the library has patched, as it says when update() is called.
class PatchedSites {
public:
    void update();
    std::size_t count_in(const SiteBlock& block) const;

private:
    std::vector<dynfunc::Address> fields_;  // ascending
};

// In words, why a block's call sites are not patched.
std::string why_no_sites();

inline constexpr const char* sites_module = "dynfunc-bench-sites.so";
inline constexpr const char* aligned_sites_module = "dynfunc-bench-sites-aligned.so";
inline constexpr const char* batch_module = "dynfunc-bench-batch.so";
inline constexpr const char* confirm_module = "dynfunc-bench-confirm.so";  // the same, to be loaded while the other is
inline constexpr const char* text_module = "dynfunc-bench-text.so";

}  // namespace bench
