// SPDX-License-Identifier: MIT
// Bench "return_probes": what it costs to see a function return, with a probe and with a wrap, how that scales with threads
// beside the classical way with the same and with other pools, and how many instances it takes. What functions inside each
// other, exceptions and real work cost is in files of their own. A new contestant is one entry of `contestants` below.
#include <sched.h>

#include <array>
#include <dynfunc/return_probe.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benches.hpp"
#include "return_contestants.hpp"

namespace bench {
namespace {

using namespace probes;

constexpr std::size_t full_rounds = 9, quick_rounds = 3;
constexpr std::string_view unprobed = "unprobed", kernel = "kernel-uretprobe", freelist = "hijack-freelist";

constexpr Contestant contestants[] = {
    {unprobed, &arm_nothing},
    {"return", &alone<&arm_return>},
    {"return-entry", &alone<&arm_return_entry>},
    {"return-vectors", &alone<&arm_return_vectors>},
    {.id = "return-typed", .arm = &alone<&arm_return_typed>, .most_ns_above = 6},
    {"hijack", &alone<&arm_hijack>},
    {"hijack-pool", &alone<&arm_hijack_pool>},
    {freelist, &alone<&arm_hijack_freelist>},
    {kernel, &alone<&arm_kernel_uretprobe>, true},
};

std::vector<std::size_t> numbers_of_threads(bool quick) {
    std::vector<std::size_t> numbers = scaling_threads(false);
    if (quick) std::erase_if(numbers, [](std::size_t threads) { return threads > 2 * allowed_cpus().size(); });
    return numbers;
}

// How many instances it takes: a share of the threads. Each has a copy of the function for itself.
struct Share {
    std::string_view id;
    std::size_t numerator, denominator;

    std::size_t of(std::size_t threads) const { return threads * numerator / denominator; }
};
constexpr Share shares[] = {{"active-quarter", 1, 4}, {"active-1x", 1, 1}, {"active-2x", 2, 1}, {"active-4x", 4, 1}};

// Gives its CPU away in the middle, so that all threads are inside at once.
template <std::size_t copy>
[[gnu::noinline]] int yielding(int x) {
    asm volatile("" : "+r"(x) : "i"(copy));  // no two copies are the same, or the linker might make one of them
    sched_yield();
    return x + 1;
}

struct Callee {
    std::string_view id, text;
    std::array<Function*, 1 + std::size(shares)> copies;  // the first is the baseline's
};

std::vector<Callee> callees() {
    Callee nop5{"nop5", "One that does nothing.", {}};
    for (std::size_t i = 0; i < nop5.copies.size(); ++i)
        nop5.copies[i] = targets().front().site(copies_of_kernel + std::size(contestants) + i).function;
    return {nop5,
            {"yield",
             "One that calls sched_yield(), so that all threads are inside at the same time.",
             {&yielding<0>, &yielding<1>, &yielding<2>, &yielding<3>, &yielding<4>}}};
}

class MaxActive {
public:
    MaxActive(Run& run, const Callee& callee, std::size_t threads)
        : threads_(threads),
          params_{{"function", std::string(callee.id)}, {"threads", static_cast<std::int64_t>(threads)}},
          burst_(scaling_burst(threads, run.quick)),
          group_(run,
                 {.bench = "return_probes",
                  .title = "max_active: " + std::string(callee.id) + ", " + std::to_string(threads) + " threads",
                  .text = "active-Nx: as many instances as N times the threads, a quarter: far too few; missed: calls that "
                          "found none. " +
                          std::string(callee.text),
                  .baseline = std::string(unprobed),
                  .unit = "ns per call",
                  .clock = Clock::threads_cpu,
                  .ratio_of = RatioOf::rates}) {
        add(unprobed, callee.copies[0], params_, {});
        for (std::size_t i = 0; i < std::size(shares); ++i) add(shares[i], callee.copies[1 + i]);
        group_.measure();
    }

private:
    using Probe = dynfunc::ReturnProbe<>;

    void add(const Share& share, Function* function) {
        const std::size_t instances = share.of(threads_);
        if (instances == 0) return;
        Params params = params_;
        params.push_back({"max_active", static_cast<std::int64_t>(instances)});
        auto probe = Probe::attach(
            function, {.on_return = [] [[gnu::target("general-regs-only")]] (dynfunc::NoCallData&, dynfunc::Registers&) {},
                       .max_active = instances,
                       .needs = dynfunc::Needs::registers});
        if (!probe) return group_.leave_out(std::string(share.id), params, probe.error().message());
        const Probe& kept = probes_.emplace_back(*std::move(probe));
        if (kept.max_active() != instances)
            return group_.leave_out(std::string(share.id), params,
                                    "it has " + std::to_string(kept.max_active()) + " instances");
        add(share.id, function, params, [number = probes_.size() - 1, this] {
            const dynfunc::ReturnCounts counts = probes_[number].counts();
            const auto parts = static_cast<double>(counts.missed) / static_cast<double>(counts.calls);
            return Params{{"missed_per_million", bench::probes::number(parts * 1e6)},
                          {"missed", static_cast<std::int64_t>(counts.missed)}};
        });
    }
    void add(std::string_view id, Function* function, const Params& params, std::function<Params()> figures) {
        group_.add(
            {.id = std::string(id),
             .params = params,
             .sample =
                 [this, function] {
                     return run_threads(burst_, [&](Worker& worker) { call_while_asked(worker, function); }).undisturbed_ns();
                 },
             .figures = std::move(figures)});
    }

    std::size_t threads_;
    Params params_;
    Burst burst_;
    Group group_;
    std::vector<Probe> probes_;
};

}  // namespace

void bench_return_probes(Run& run) {
    Run own{run.results, run.quick ? quick_rounds : full_rounds, run.quick};
    Contest contest{.bench = "return_probes",
                    .contestants = contestants,
                    .compared = {kernel, freelist},
                    .threads = numbers_of_threads(run.quick)};
    for (const TargetFunction& target : targets()) {
        measure_target(own, contest, target);
        // The first one has all contestants, and shows how they scale.
        std::erase_if(contest.threads, [most = contest.threads.back()](std::size_t threads) {
            return threads != 1 && threads != 8 && threads != most;
        });
    }
    for (const Callee& callee : callees())
        for (const std::size_t threads : {allowed_cpus().size(), 4 * allowed_cpus().size()}) MaxActive(own, callee, threads);
    bench_nested_returns(run);
    bench_throws(own);
    bench_return_work(own);
}

}  // namespace bench
