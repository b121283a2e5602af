// SPDX-License-Identifier: MIT
// Bench "retarget": retarget_all over 1 to 10,000 functions, per function.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "call_sites.hpp"

namespace bench {
namespace {

constexpr std::uint64_t block_size = 16384;  // the block of sites.py that the batches are taken from
constexpr std::size_t sizes[] = {1, 100, 1000, 10000};

void check(const dynfunc::Result<void>& done) {
    if (done) return;
    std::fprintf(stderr, "dynfunc-bench: retarget_all: element %zu: %s\n", done.error().element,
                 done.error().message().c_str());
    std::exit(1);
}

const SiteBlock* called_block;  // what the busy caller calls
void call_first_site() {
    int x = reinterpret_cast<Callee*>(called_block->records->code)(1);
    asm volatile("" ::"r"(x));
}

GroupOptions options(const std::string& title, const std::string& text, Clock clock) {
    return {
        .bench = "retarget", .title = title, .text = text, .baseline = "dynfunc", .unit = "ns per function", .clock = clock};
}

std::vector<Target> targets(std::size_t size) {
    return size == 1000 ? std::vector<Target>{ns_at_most(100)} : std::vector<Target>{};
}

Params params(std::size_t size, std::size_t callers) {
    return {{"batch", static_cast<std::int64_t>(size)}, {"callers", static_cast<std::int64_t>(callers)}};
}

void measure_alone(Run& run, const SiteBlock& block) {
    Group group(run, options("batches, no other thread",
                             "retarget_all() of functions whose calls go through trampolines, time per function of the batch; "
                             "dynfunc: one retarget() for each.",
                             Clock::thread_cpu));
    group.add({.id = "dynfunc",
               .params = params(1, 0),
               .run =
                   [&block](std::uint64_t n) {
                       for (std::uint64_t i = 0; i < n; ++i) check(block.functions()[0].retarget(target_in(block, i % 2)));
                   },
               .form = form_of(block)});
    for (const std::size_t size : sizes)
        group.add({.id = "dynfunc-batch",
                   .params = params(size, 0),
                   .run =
                       [batches = Batches(block, size)](std::uint64_t n) {
                           for (std::uint64_t i = 0; i < n; ++i) batches.turn(i);
                       },
                   .elements = static_cast<double>(size),
                   .targets = targets(size),
                   .form = form_of(block)});
    group.measure();
}

void measure_under_caller(Run& run, const SiteBlock& block) {
    Group group(run, options("batches, 1 busy caller",
                             "The same while another core calls the first function of the batch without pause.", Clock::wall));
    if (BusyCallers::other_cores() == 0) {
        group.leave_out("dynfunc-batch", params(1000, 1), "needs a second core");
        return;
    }
    called_block = &block;
    const BusyCallers callers(&call_first_site, 1);
    const auto add = [&](const char* id, std::size_t size, std::function<void(std::size_t)> turn) {
        group.add({.id = id,
                   .params = params(size, 1),
                   .sample =
                       [&callers, size, turn = std::move(turn), i = std::size_t{0}]() mutable {
                           return median_latency(callers, [&] { turn(i++); }) / static_cast<double>(size);
                       },
                   .targets = id == std::string("dynfunc-batch") ? targets(size) : std::vector<Target>{},
                   .form = form_of(block)});
    };
    add("dynfunc", 1, [&block](std::size_t i) { check(block.functions()[0].retarget(target_in(block, i))); });
    for (const std::size_t size : sizes)
        add("dynfunc-batch", size, [batches = Batches(block, size)](std::size_t i) { batches.turn(i); });
    group.measure();
}

}  // namespace

void bench_batches(Run& run) {
    const Module module(sites_module);
    const SiteBlock* block = find_block(module, "dynfunc", block_size);
    if (block == nullptr) {
        Group(run, options("batches", "", Clock::thread_cpu)).leave_out("dynfunc-batch", {}, module.error());
        return;
    }
    measure_alone(run, *block);
    measure_under_caller(run, *block);
}

}  // namespace bench
