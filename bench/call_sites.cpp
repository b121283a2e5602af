// SPDX-License-Identifier: MIT
#include "call_sites.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <dynfunc/call_sites.hpp>
#include <vector>

namespace bench {

namespace {

void check(const dynfunc::Result<void>& done) {
    if (done) return;
    std::fprintf(stderr, "dynfunc-bench: retarget_all: element %zu: %s\n", done.error().element,
                 done.error().message().c_str());
    std::exit(1);
}

Callee* code_at(const unsigned char* address) { return reinterpret_cast<Callee*>(reinterpret_cast<std::uintptr_t>(address)); }

}  // namespace

Callee* target_in(const SiteBlock& block, std::size_t i) { return code_at(block.callees + i % block.sites * callee_bytes); }

Batches::Batches(const SiteBlock& block, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        there_.push_back(block.functions()[i].to(target_in(block, i + 1)));
        back_.push_back(block.functions()[i].to(target_in(block, i)));
    }
}

void Batches::turn(std::size_t i) const { check(dynfunc::retarget_all(i % 2 == 0 ? there_ : back_)); }

void patch_sites_of(const SiteBlock& block) {
    const Batches batches(block, block.sites);
    batches.turn(0);
    batches.turn(1);
}

void PatchedSites::update() {
    fields_.clear();
    for (const dynfunc::CallSiteInfo& site : dynfunc::call_sites("site_*"))
        if (site.patched) fields_.push_back(site.field);
    std::ranges::sort(fields_);
}

std::size_t PatchedSites::count_in(const SiteBlock& block) const {
    const auto at = [this](dynfunc::Address address) { return std::ranges::lower_bound(fields_, address); };
    return static_cast<std::size_t>(at(dynfunc::Address::of(block.run_end)) - at(dynfunc::Address::of(block.run)));
}

std::string why_no_sites() {
    const dynfunc::CallSitePatching how = dynfunc::call_site_patching();
    if (*how.reason != '\0') return how.reason;
    return how.when == dynfunc::CallSites::never ? "DYNFUNC_CALL_SITES=0" : "no call site of it is patched";
}

}  // namespace bench
