// SPDX-License-Identifier: MIT
// The part of the bench "return_probes" that does real work with probes on: what 1 to 20 processes get done.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <dynfunc/return_probe.hpp>
#include <string>
#include <utility>
#include <vector>

#include "benches.hpp"
#include "locking_processes.hpp"
#include "threads.hpp"

namespace bench {
namespace {

// Of this process, which has one thread while it works.
constinit std::uint64_t entries = 0, returns = 0;

std::uint64_t no_calls() { return 0; }
std::uint64_t calls_seen() { return std::min(entries, returns); }

using Probe = dynfunc::ReturnProbe<>;

dynfunc::Result<Probe> attach() {
    return Probe::attach(
        std::vector<dynfunc::ProbeTarget>(std::begin(called_in_turn), std::end(called_in_turn)),
        {.on_entry =
             [] [[gnu::target("general-regs-only")]] (dynfunc::NoCallData&, dynfunc::Registers&) {
                 ++entries;
                 return dynfunc::Track::track;
             },
         .on_return = [] [[gnu::target("general-regs-only")]] (dynfunc::NoCallData&, dynfunc::Registers&) { ++returns; },
         .needs = dynfunc::Needs::registers});
}

WorkBurst burst_of(std::size_t processes, bool quick) {
    const Burst burst = scaling_burst(processes, quick);
    return {.processes = processes, .seconds = burst.seconds, .warm_up = burst.warm_up};
}

// All rounds of bare or probed work with one number of processes.
struct Rounds {
    std::vector<double> turns_per_s = {};
    std::uint64_t calls = 0, seen = 0;
    std::string refused = {};

    // Nanoseconds of a turn, had the processes had all of their CPUs; NaN if there is none.
    double add(const WorkBurst& burst, std::uint64_t (*count)()) {
        const auto worked = run_processes(burst, count);
        if (!worked || worked->turns == 0) {
            refused = worked ? "not one turn was done" : worked.error();
            return std::nan("");
        }
        turns_per_s.push_back(static_cast<double>(worked->turns) / worked->seconds);
        calls += worked->turns * calls_per_turn;
        seen += worked->calls;
        const auto cpus = static_cast<double>(std::min(burst.processes, allowed_cpus().size()));
        return worked->cpu_ns / (static_cast<double>(worked->turns) * cpus);
    }
};

void measure(Run& run, std::size_t processes) {
    const std::string number = std::to_string(processes);
    const std::string bare = "work-bare-" + number, probed = "work-probed-" + number;
    const Params params = {{"processes", static_cast<std::int64_t>(processes)}};
    Group group(
        run, {.bench = "return_probes",
              .title = "work: " + number + (processes == 1 ? " process" : " processes"),
              .text = "Each process locks and unlocks its byte of a file (fcntl), takes and gives back a shared lock of it "
                      "(flock), and takes and gives back the right to write to a page (mprotect). work-probed: with a return "
                      "probe on these functions of the C library that counts entries and returns.",
              .baseline = bare,
              .unit = "ns per turn",
              .clock = Clock::processes_cpu,
              .ratio_of = RatioOf::rates});
    if (const auto tried = attach(); !tried) return group.leave_out(probed, params, tried.error().message());
    const WorkBurst burst = burst_of(processes, run.quick);
    Rounds of_bare, of_probed;
    group.add({.id = bare,
               .params = params,
               .sample = [&] { return of_bare.add(burst, &no_calls); },
               .figures =
                   [&] {
                       return Params{{"turns_per_s", std::llround(median(of_bare.turns_per_s))}};
                   }});
    group.add({.id = probed,
               .params = params,
               .sample =
                   [&] {
                       const auto probe = attach();  // the children have it from here
                       if (!probe) return std::nan("");
                       return of_probed.add(burst, &calls_seen);
                   },
               .figures =
                   [&] {
                       return Params{{"turns_per_s", std::llround(median(of_probed.turns_per_s))},
                                     {"calls_seen", static_cast<std::int64_t>(of_probed.seen)}};
                   }});
    group.measure();
    if (const std::uint64_t unseen = of_probed.calls - of_probed.seen; unseen != 0)
        group.leave_out(probed, params,
                        std::to_string(unseen) + " of its " + std::to_string(of_probed.calls) + " calls were not seen");
    for (const auto& [id, rounds] : {std::pair(bare, &of_bare), std::pair(probed, &of_probed)})
        if (!rounds->refused.empty()) group.leave_out(id, params, "in a round: " + rounds->refused);
}

}  // namespace

void bench_return_work(Run& run) {
    const std::vector<std::size_t> numbers =
        run.quick ? std::vector<std::size_t>{1, 4, 20} : std::vector<std::size_t>{1, 2, 4, 8, 12, 16, 20};
    for (const std::size_t processes : numbers) measure(run, processes);
}

}  // namespace bench
