// SPDX-License-Identifier: MIT
// Bench "calls", many distinct call sites: what a large program sees, where the branch predictor and the instruction cache
// hold only some of them.
#include <cstdio>
#include <memory>
#include <string>

#include "benches.hpp"
#include "call_sites.hpp"

namespace bench {
namespace {

constexpr std::uint64_t sizes[] = {64, 1024, 4096, 16384, 65536};
constexpr const char* kinds[] = {"direct",           "dynfunc",      "dynfunc-inline",  "dynfunc-inline-aligned",
                                 "direct-aligned",   "dynfunc-slot", "dynfunc-generic", "pointer",
                                 "pointer-retpoline"};

constexpr const char* text =
    "Distinct call sites in straight line, each with a callee of its own. dynfunc: every call goes through its trampoline, "
    "because no unwind table tells the library about the code around it. dynfunc-inline: call sites as compilers lay them out, "
    "at every alignment; those that one store can replace are patched, the others go through their trampolines. "
    "dynfunc-inline-aligned, direct-aligned: the same and direct, assembled with -malign-branch-boundary=16 "
    "-malign-branch=call+jmp+jcc; that alone changes how fast calls in a row are. How many call sites are patched: the table "
    "below.";

bool is_inline(const std::string& kind) { return kind.starts_with("dynfunc-inline"); }
bool is_aligned(const std::string& kind) { return kind.ends_with("-aligned"); }

std::vector<Target> targets_of(const std::string& kind) {
    if (!is_inline(kind)) return {};
    std::vector<Target> targets = {ratio_at_most(1.05)};
    if (is_aligned(kind)) targets.push_back(ratio_to_at_most("direct-aligned", 1.05));
    return targets;
}

// The modules with the kinds and, of all their blocks, the call sites that are patched.
class Blocks {
public:
    Blocks() : plain_(sites_module), aligned_(aligned_sites_module) {
        for (const char* kind : kinds)
            for (const std::uint64_t sites : sizes)
                if (const SiteBlock* block = find(kind, sites); block != nullptr && is_inline(kind)) patch_sites_of(*block);
        patched_.update();
    }

    const std::string& error() const { return plain_.error(); }
    const SiteBlock* find(const std::string& kind, std::uint64_t sites) const {
        return find_block(is_aligned(kind) ? aligned_ : plain_, kind, sites);
    }
    std::int64_t patched_in(const SiteBlock& block) const { return static_cast<std::int64_t>(patched_.count_in(block)); }

private:
    Module plain_, aligned_;
    PatchedSites patched_;
};

// Why a case cannot stand under its name; empty: it can.
std::string why_not(const Blocks& blocks, const std::string& kind, const SiteBlock* block) {
    if (block == nullptr)
        return is_aligned(kind) ? "not built: the assembler does not know -malign-branch-boundary=16" : "not in the module";
    if (DYNFUNC_GENERIC_SITES != 0 && block->records != nullptr)
        return "this build has no trampolines; its call sites are those of dynfunc-generic";
    const std::int64_t patched = blocks.patched_in(*block);
    if (kind == "dynfunc" && patched != 0) return "its call sites are patched, so that it would not be the trampolines";
    if (is_inline(kind) && patched == 0) return why_no_sites();
    return "";
}

void measure_sites(Run& run, const Blocks& blocks, std::uint64_t sites) {
    Group group(run, {.bench = "calls",
                      .title = std::to_string(sites) + " sites",
                      .text = text,
                      .baseline = "direct",
                      .unit = "ns per call"});
    const Params params = {{"sites", static_cast<std::int64_t>(sites)}};
    for (const char* kind : kinds) {
        const SiteBlock* block = blocks.find(kind, sites);
        if (const std::string why = why_not(blocks, kind, block); !why.empty()) {
            group.leave_out(kind, params, why);
            continue;
        }
        Case c{.id = kind,
               .params = params,
               .run =
                   [call_all = block->run](std::uint64_t n) {
                       while (n-- > 0) call_all(0);
                   },
               .elements = static_cast<double>(sites),
               .targets = targets_of(kind),
               .form = form_of(*block)};
        if (is_inline(kind) || kind == std::string("dynfunc"))
            c.figures = [patched = blocks.patched_in(*block)] { return Params{{"sites_patched", patched}}; };
        group.add(std::move(c));
    }
    group.measure();
}

void add_table(Results& results, const Blocks& blocks) {
    Table table{.bench = "calls",
                .title = "call sites that are patched",
                .text = "As introspection counts them. The distance in a patched one lies inside one aligned word.",
                .head = {"case"},
                .lines = {}};
    for (const std::uint64_t sites : sizes) table.head.push_back(std::to_string(sites) + " sites");
    for (const char* kind : kinds) {
        if (kind != std::string("dynfunc") && !is_inline(kind)) continue;
        std::vector<std::string> line = {kind};
        for (const std::uint64_t sites : sizes) {
            const SiteBlock* block = blocks.find(kind, sites);
            if (!why_not(blocks, kind, block).empty()) break;
            char share[48];
            std::snprintf(share, sizeof share, "%.1f %%",
                          100 * static_cast<double>(blocks.patched_in(*block)) / static_cast<double>(sites));
            line.emplace_back(share);
        }
        if (line.size() == table.head.size()) table.lines.push_back(std::move(line));
    }
    if (!table.lines.empty()) results.add(std::move(table));
}

}  // namespace

void bench_call_sites(Run& run) {
    const Blocks blocks;
    if (!blocks.error().empty()) {
        Group(run, {.bench = "calls", .title = "many sites", .text = text, .baseline = ""})
            .leave_out("direct", {}, blocks.error());
        return;
    }
    for (const std::uint64_t sites : sizes) measure_sites(run, blocks, sites);
    add_table(run.results, blocks);
}

}  // namespace bench
