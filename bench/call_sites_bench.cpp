// SPDX-License-Identifier: MIT
// Bench "calls", many distinct call sites: what a large program sees, where the branch predictor and the instruction cache
// hold only some of them.
#include <string>

#include "benches.hpp"
#include "call_sites.hpp"

namespace bench {
namespace {

constexpr std::uint64_t sizes[] = {64, 1024, 4096, 16384, 65536};
constexpr const char* kinds[] = {"direct", "dynfunc", "dynfunc-slot", "dynfunc-generic", "pointer", "pointer-retpoline"};

constexpr const char* text = "Distinct call sites in straight line, each with a callee of its own.";

void measure_sites(Run& run, const Module& module, std::uint64_t sites) {
    Group group(run, {.bench = "calls",
                      .title = std::to_string(sites) + " sites",
                      .text = text,
                      .baseline = "direct",
                      .unit = "ns per call"});
    const Params params = {{"sites", static_cast<std::int64_t>(sites)}};
    for (const char* kind : kinds) {
        const SiteBlock* block = find_block(module, kind, sites);
        if (block == nullptr) {
            group.leave_out(kind, params, "not in the module");
            continue;
        }
        if (DYNFUNC_GENERIC_SITES != 0 && block->records != nullptr) {
            group.leave_out(kind, params, "this build has no trampolines; its call sites are those of dynfunc-generic");
            continue;
        }
        group.add({.id = kind,
                   .params = params,
                   .run =
                       [call_all = block->run](std::uint64_t n) {
                           while (n-- > 0) call_all(0);
                       },
                   .elements = static_cast<double>(sites),
                   .form = form_of(*block)});
    }
    group.measure();
}

}  // namespace

void bench_call_sites(Run& run) {
    const Module module(sites_module);
    if (!module.error().empty()) {
        Group(run, {.bench = "calls", .title = "many sites", .text = text, .baseline = ""})
            .leave_out("direct", {}, module.error());
        return;
    }
    for (const std::uint64_t sites : sizes) measure_sites(run, module, sites);
}

}  // namespace bench
