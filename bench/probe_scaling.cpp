// SPDX-License-Identifier: MIT
#include "probe_scaling.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace bench::probes {
namespace {

constexpr std::size_t calls_between_questions = 64;  // to Worker::stopped()

[[gnu::noinline]] void call_some(Function* function) {
    for (std::size_t i = 0; i < calls_between_questions; ++i) function(static_cast<int>(i));
}

double standard_deviation(const std::vector<double>& values) {
    double sum = 0, squares = 0;
    for (const double value : values) sum += value;
    const double mean = sum / static_cast<double>(values.size());
    for (const double value : values) squares += (value - mean) * (value - mean);
    return values.size() < 2 ? 0 : std::sqrt(squares / static_cast<double>(values.size() - 1));
}

// All rounds of one contestant with one number of threads.
struct Series {
    std::vector<double> ns, cpu_shares;

    std::vector<double> rates() const {
        std::vector<double> millions;
        for (const double each : ns)
            if (!std::isnan(each)) millions.push_back(1e3 / each);
        return millions;
    }
    double times(const Series& other) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < std::min(ns.size(), other.ns.size()); ++i)
            if (const double ratio = other.ns[i] / ns[i]; !std::isnan(ratio)) ratios.push_back(ratio);
        return median(std::move(ratios));
    }
};

// A contestant on its copy of one target.
struct Probed {
    const Contestant* contestant;
    Site site;
    Armed armed;
};

// What this process cannot have on a target: ids and reasons.
using Refusals = std::vector<std::pair<std::string, std::string>>;

std::vector<Probed> arm_all(const Contest& contest, const TargetFunction& target, Refusals& refused) {
    std::vector<Probed> armed;
    std::size_t copy = copies_of_kernel;
    for (const Contestant& contestant : contest.contestants) {
        const Site site = target.site(contestant.is_kernels ? 0 : copy++);
        const std::byte before = first_byte(site);
        Arming arming = contestant.arm(site);
        if (!arming) {
            refused.emplace_back(contestant.id, arming.error());
            continue;
        }
        if (&contestant != &contest.contestants.front() && first_byte(site) == before)
            refused.emplace_back(contestant.id, not_changed);
        else if (!target.works(site))
            refused.emplace_back(contestant.id, returns_otherwise);
        else
            armed.push_back({&contestant, site, *std::move(arming)});
    }
    return armed;
}

// Calls per second of one target: a line for each contestant, a column for each number of threads.
struct Lines {
    Table table;

    Lines(const std::string& bench, const TargetFunction& target, const std::vector<Probed>& all)
        : table{.bench = bench,
                .title = std::string(target.id) + ": M calls/s of all threads +- standard deviation (per thread)",
                .text = "Medians over the rounds, by CPU time of the threads.",
                .head = {"threads"},
                .lines = {}} {
        for (const Probed& probed : all) table.lines.push_back({std::string(probed.contestant->id)});
    }
    void add(std::size_t threads, const std::vector<Series>& columns) {
        table.head.push_back(std::to_string(threads));
        for (std::size_t i = 0; i < columns.size(); ++i) {
            const std::vector<double> rates = columns[i].rates();
            const double rate = median(rates);
            table.lines[i].push_back(number(rate) + " +- " + number(standard_deviation(rates)) + " (" +
                                     number(rate / static_cast<double>(threads)) + ")");
        }
    }
};

// "kernel-uprobe" is the figure "x_kernel_uprobe".
std::string figure_of(std::string_view compared) {
    std::string name = "x_" + std::string(compared);
    std::ranges::replace(name, '-', '_');
    return name;
}

void measure_threads(Run& run, const Contest& contest, const TargetFunction& target, const std::vector<Probed>& all,
                     std::size_t threads, Lines& lines, const Refusals& refused) {
    const Params params = {{"target", std::string(target.id)}, {"threads", static_cast<std::int64_t>(threads)}};
    Group group(run,
                {.bench = contest.bench,
                 .title = std::string(target.id) + ": " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
                 .text = std::string("The function begins with ") + target.text + ".",
                 .baseline = std::string(contest.contestants.front().id),
                 .unit = "ns per call",
                 .clock = Clock::threads_cpu,
                 .ratio_of = RatioOf::rates});
    for (const auto& [id, reason] : refused) group.leave_out(id, params, reason);
    const Burst burst = scaling_burst(threads, run.quick);
    std::vector<Series> series(all.size());
    std::vector<std::pair<std::string, const Series*>> compared;
    const auto figures = [&](const Series& own, const Armed& armed, std::uint64_t missed_before) {
        Params params = {{"cpu_percent", std::llround(median(own.cpu_shares) * 100)},
                         {"spread_M_per_s", number(standard_deviation(own.rates()))}};
        for (const auto& [figure, other] : compared)
            if (other != &own) params.push_back({figure, number(own.times(*other))});
        if (armed.missed) params.push_back({"missed", static_cast<std::int64_t>(armed.missed() - missed_before)});
        if (!armed.note.empty()) params.push_back({"note", armed.note});
        return params;
    };
    for (std::size_t i = 0; i < all.size(); ++i) {
        const Probed& probed = all[i];
        Series& own = series[i];
        if (std::ranges::find(contest.compared, probed.contestant->id) != contest.compared.end())
            compared.emplace_back(figure_of(probed.contestant->id), &own);
        const std::uint64_t missed_before = probed.armed.missed ? probed.armed.missed() : 0;
        std::vector<Target> targets;
        if (const double most = probed.contestant->most_ns_above; threads == 1 && most > 0)
            targets.push_back(ns_above_at_most(most));
        group.add({.id = std::string(probed.contestant->id),
                   .params = params,
                   .sample =
                       [&own, &burst, function = probed.site.function] {
                           const Outcome outcome =
                               run_threads(burst, [&](Worker& worker) { call_while_asked(worker, function); });
                           own.cpu_shares.push_back(outcome.cpu_share);
                           return own.ns.emplace_back(outcome.undisturbed_ns());
                       },
                   .targets = std::move(targets),
                   .figures = [&own, &figures, &probed, missed_before] { return figures(own, probed.armed, missed_before); }});
    }
    group.measure();
    lines.add(threads, series);
}

}  // namespace

Arming arm_nothing(const Site&) { return Armed{}; }

void call_while_asked(Worker& worker, Function* function) {
    worker.start();
    while (worker.warming()) call_some(function);
    worker.begin();
    std::uint64_t hits = 0;
    for (; !worker.stopped(); hits += calls_between_questions) call_some(function);
    worker.count(hits, 0);
    worker.finish();
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, value < 10 ? "%.3f" : value < 100 ? "%.2f" : "%.1f", value);
    return text;
}

void measure_target(Run& run, const Contest& contest, const TargetFunction& target) {
    Refusals refused;
    const std::vector<Probed> all = arm_all(contest, target, refused);
    Lines lines(contest.bench, target, all);
    for (const std::size_t threads : contest.threads) measure_threads(run, contest, target, all, threads, lines, refused);
    run.results.add(std::move(lines.table));
}

}  // namespace bench::probes
