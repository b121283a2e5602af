// SPDX-License-Identifier: MIT
// Bench "retarget": what call sites add to a batch. Each round starts a process, in which nothing was changed before.
#include <cmath>
#include <dynfunc/capabilities.hpp>
#include <memory>

#include "benches.hpp"
#include "fresh_process.hpp"

namespace bench {
namespace {

constexpr std::int64_t batch = 1000;

constexpr const char* text =
    "retarget_all() of 1000 functions, time per function. dynfunc: their trampolines. dynfunc-inline: each has one call site, "
    "side by side, one every 7 bytes; those whose distance lies in one aligned word are patched too. spread: the "
    "call sites are 256 bytes apart, so that each takes a write of its own. one: a single function with 1000 call sites side "
    "by "
    "side, time per call site. per-site: dynfunc-inline (or spread) less dynfunc, per call site that is patched. write: what "
    "one place costs at least that is written alone: 1000 times pwrite() of 8 bytes, 256 bytes apart, to /proc/self/mem, and "
    "one membarrier. write-pages: what 1000 neighbours cost at least: the bytes of the trampolines and of dynfunc-inline's "
    "call "
    "sites, a page at a time.";

// What one round's process said; the first case of a round asks.
struct Round {
    SiteBatches seen{};
    bool good = false;
};

double per_site(const SiteBatch& with, const SiteBatch& without) {
    return (with.retarget - without.retarget) * batch / with.patched;
}

struct Shown {
    const char* id;
    SiteBatch SiteBatches::*batch;
};
constexpr Shown shown[] = {{"dynfunc", &SiteBatches::trampolines},
                           {"dynfunc-inline", &SiteBatches::dense},
                           {"dynfunc-inline-spread", &SiteBatches::spread},
                           {"dynfunc-inline-one", &SiteBatches::one}};

}  // namespace

void bench_site_batches(Run& run) {
    Run own{run.results, run.quick ? std::size_t{5} : std::size_t{15}, run.quick};
    Group group(own, {.bench = "retarget",
                      .title = "call sites in a batch of 1000",
                      .text = text,
                      .baseline = "write",
                      .unit = "ns per function"});
    const Params params = {{"batch", batch}};
    const auto tried = batches_fresh();
    if (!tried || tried->dense.patched == 0 || tried->trampolines.patched != 0) {
        group.leave_out("dynfunc-inline", params, !tried ? tried.error() : "call sites are not patched in this process");
        return;
    }
    const auto round = std::make_shared<Round>();
    group.add({.id = "write", .params = params, .sample = [=] {
                   const auto seen = batches_fresh();
                   round->good = seen.has_value();
                   if (seen) round->seen = *seen;
                   return seen ? seen->spread.write : std::nan("");
               }});
    group.add({.id = "write-pages", .params = params, .sample = [=] {
                   return round->good ? round->seen.dense.write : std::nan("");
               }});
    for (const Shown& each : shown)
        group.add({.id = each.id,
                   .params = params,
                   .sample = [=] { return round->good ? (round->seen.*each.batch).retarget : std::nan(""); },
                   .form = to_string(dynfunc::capabilities().form),
                   .figures =
                       [=] {
                           return Params{{"sites_patched", std::llround((round->seen.*each.batch).patched)}};
                       }});
    const auto add_per_site = [&](const char* id, SiteBatch SiteBatches::*with) {
        group.add({.id = id,
                   .params = params,
                   .sample = [=] { return round->good ? per_site(round->seen.*with, round->seen.trampolines) : std::nan(""); },
                   .targets = {ns_at_most(100)},
                   .form = to_string(dynfunc::capabilities().form)});
    };
    add_per_site("per-site", &SiteBatches::dense);
    add_per_site("per-site-spread", &SiteBatches::spread);
    group.measure();
}

}  // namespace bench
