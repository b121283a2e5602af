// SPDX-License-Identifier: MIT
#include "harness.hpp"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace bench {
namespace {

constexpr double calibrated_ns = 2.5e6;
constexpr std::size_t fewest_rounds = 3;  // below it a median means nothing

// How many operations take about calibrated_ns. What happens only once, such as reading a module's text to find call sites,
// happens before.
std::uint64_t calibrate(const Case& c, Clock clock) {
    c.run(2);
    for (std::uint64_t n = 1;; n *= 2) {
        const double begin = now(clock);
        c.run(n);
        const double ns = now(clock) - begin;
        if (ns > calibrated_ns / 4)
            return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(n) * calibrated_ns / ns));
    }
}

// One round of a calibrated case. The untimed eighth refills the caches and predictors that the other cases used.
double measure_round(const Case& c, std::uint64_t n, Clock clock) {
    c.run(n / 8 + 1);
    const double begin = now(clock);
    c.run(n);
    return (now(clock) - begin) / (static_cast<double>(n) * c.elements);
}

std::vector<double> without_nan(std::vector<double> values) {
    std::erase_if(values, [](double value) { return std::isnan(value); });
    return values;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

const char* to_string(Clock clock) {
    switch (clock) {
        case Clock::wall:
            return "wall time";
        case Clock::program_cpu:
            return "CPU time of the program";
        case Clock::threads_cpu:
            return "CPU time of the threads / CPUs";
        case Clock::each_thread_cpu:
            return "CPU time of a thread";
        case Clock::processes_cpu:
            return "CPU time of the processes / CPUs";
        default:
            return "thread CPU time";
    }
}

std::string duration(double ns) {
    if (ns >= 1e6) return short_number(ns / 1e6) + " ms";
    if (ns >= 1e3) return short_number(ns / 1e3) + " us";
    return short_number(ns) + " ns";
}

}  // namespace

double now(Clock clock) noexcept {
    timespec time{};
    clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

double median(std::vector<double> values) {
    if (values.empty()) return std::nan("");
    const std::size_t half = values.size() / 2;
    std::ranges::sort(values);
    return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

const std::vector<int>& allowed_cpus() {
    // Asked once, before the first pin_to() narrows the answer.
    static const std::vector<int> cpus = [] {
        std::vector<int> found;
        cpu_set_t set;
        if (sched_getaffinity(0, sizeof set, &set) == 0)
            for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
                if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
        return found.empty() ? std::vector<int>{0} : found;
    }();
    return cpus;
}

int measuring_cpu() { return allowed_cpus().back(); }

void pin_to(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) std::perror("dynfunc-bench: sched_setaffinity");
}

Target ns_at_most(double ns) { return {Target::Kind::ns_at_most, ns, {}}; }
Target ns_above_at_most(double ns) { return {Target::Kind::ns_above_at_most, ns, {}}; }
Target ratio_at_most(double ratio) { return {Target::Kind::ratio_at_most, ratio, {}}; }
Target ratio_to_at_most(const std::string& id, double ratio) { return {Target::Kind::ratio_to_at_most, ratio, id}; }
Target gib_per_s_at_least(double gib) { return {Target::Kind::gib_per_s_at_least, gib, {}}; }
Target times_faster_than(const std::string& id, double times) { return {Target::Kind::times_faster, times, id}; }
Target rate_at_least(const std::string& id, double times) { return {Target::Kind::rate_at_least, times, id}; }
Target rate_of_best_at_least(std::vector<std::string> ids, double times) {
    return {Target::Kind::rate_of_best_at_least, times, {}, std::move(ids)};
}
Target rate_of_earlier_at_least(std::string what, double earlier_ns, double share) {
    return {Target::Kind::rate_of_earlier_at_least, share, std::move(what), {}, earlier_ns};
}

Group::Group(Run& run, GroupOptions options) : run_(run), options_(std::move(options)) {
    run_.results.add(GroupText{options_.bench, options_.title, options_.text});
}

void Group::leave_out(std::string id, Params params, std::string reason) {
    run_.results.add(LeftOut{options_.bench, options_.title, std::move(id), std::move(params), std::move(reason)});
}

std::size_t Group::index_of(const std::string& id) const {
    std::size_t found = cases_.size();
    for (std::size_t i = 0; i < cases_.size(); ++i) {
        if (cases_[i].id != id) continue;
        if (found != cases_.size()) {
            std::fprintf(stderr, "dynfunc-bench: %s, %s: two cases are called '%s', it cannot be a baseline\n",
                         options_.bench.c_str(), options_.title.c_str(), id.c_str());
            std::abort();
        }
        found = i;
    }
    if (found == cases_.size()) {
        std::fprintf(stderr, "dynfunc-bench: %s, %s: no case '%s' to compare with\n", options_.bench.c_str(),
                     options_.title.c_str(), id.c_str());
        std::abort();
    }
    return found;
}

bool Group::has(const std::string& id) const { return std::ranges::find(cases_, id, &Case::id) != cases_.end(); }

double Group::median_ns(const std::string& id) const {
    return has(id) && !ns_.empty() ? median(without_nan(ns_[index_of(id)])) : std::nan("");
}

std::vector<double> Group::ratios(const std::vector<double>& numerator, const std::vector<double>& denominator) const {
    std::vector<double> all;
    for (std::size_t round = 0; round < numerator.size(); ++round) all.push_back(numerator[round] / denominator[round]);
    return without_nan(std::move(all));
}

Verdict Group::judge(const Target& target, std::size_t index) const {
    const std::vector<double>& own = ns_[index];
    const std::string limit = short_number(target.limit);
    switch (target.kind) {
        case Target::Kind::ns_at_most: {
            const double value = median(without_nan(own));
            return {"ns_at_most", "<= " + duration(target.limit), value, target.limit, value <= target.limit};
        }
        case Target::Kind::ns_above_at_most: {
            const std::vector<double>& base = ns_[index_of(options_.baseline)];
            std::vector<double> above;
            for (std::size_t round = 0; round < own.size(); ++round) above.push_back(own[round] - base[round]);
            const double value = median(without_nan(std::move(above)));
            return {"ns_above_at_most", "<= " + duration(target.limit) + " above " + options_.baseline, value, target.limit,
                    value <= target.limit};
        }
        case Target::Kind::ratio_at_most:
        case Target::Kind::ratio_to_at_most: {
            const bool to_baseline = target.kind == Target::Kind::ratio_at_most;
            const std::string& other = to_baseline ? options_.baseline : target.against;
            const double value = median(ratios(own, ns_[index_of(other)]));
            return {to_baseline ? "ratio_at_most" : "ratio_to_at_most", "<= " + limit + "x " + other, value, target.limit,
                    value <= target.limit};
        }
        case Target::Kind::gib_per_s_at_least: {
            constexpr double ns_per_kib_of_1_gib_per_s = 1e9 / (1 << 20);
            const double value = ns_per_kib_of_1_gib_per_s / median(without_nan(own));
            return {"gib_per_s_at_least", ">= " + limit + " GiB/s", value, target.limit, value >= target.limit};
        }
        case Target::Kind::times_faster: {
            const double value = median(ratios(ns_[index_of(target.against)], own));
            return {"times_faster", ">= " + limit + "x faster than " + target.against, value, target.limit,
                    value >= target.limit};
        }
        case Target::Kind::rate_at_least: {
            const double value = median(ratios(ns_[index_of(target.against)], own));
            return {"rate_at_least", ">= " + limit + "x " + target.against, value, target.limit, value >= target.limit};
        }
        case Target::Kind::rate_of_best_at_least:
            return judge_against_best(target, index);
        case Target::Kind::rate_of_earlier_at_least: {
            const double value = target.earlier_ns / median(without_nan(own));
            return {"rate_of_earlier_at_least", ">= " + limit + "x " + target.against, value, target.limit,
                    value >= target.limit};
        }
    }
    std::abort();
}

Verdict Group::judge_against_best(const Target& target, std::size_t index) const {
    std::string best;
    for (const std::string& id : target.best_of)
        if (has(id) && (best.empty() || median_ns(id) < median_ns(best))) best = id;
    const double value = best.empty() ? std::nan("") : median(ratios(ns_[index_of(best)], ns_[index]));
    return {"rate_of_best_at_least", ">= " + short_number(target.limit) + "x " + best + ", the best peer", value, target.limit,
            value >= target.limit};
}

void Group::measure() {
    if (cases_.empty()) return;
    std::fprintf(stderr, "%s: %s (%zu cases, %zu rounds)\n", options_.bench.c_str(), options_.title.c_str(), cases_.size(),
                 run_.rounds);
    const std::size_t baseline = index_of(options_.baseline);
    std::vector<std::uint64_t> operations(cases_.size(), 0);
    for (std::size_t i = 0; i < cases_.size(); ++i)
        if (cases_[i].run) operations[i] = calibrate(cases_[i], options_.clock);

    ns_.assign(cases_.size(), {});
    for (std::size_t round = 0; round < run_.rounds; ++round)
        for (std::size_t i = 0; i < cases_.size(); ++i)
            ns_[i].push_back(cases_[i].run ? measure_round(cases_[i], operations[i], options_.clock) : cases_[i].sample());

    const auto usable = [&](std::size_t i) { return without_nan(ns_[i]).size() >= fewest_rounds; };
    for (std::size_t i = 0; i < cases_.size(); ++i) {
        const Case& c = cases_[i];
        if (!usable(i)) {
            leave_out(c.id, c.params, "the situation to measure came up in too few rounds: the machine is too busy");
            continue;
        }
        const std::vector<double> seen = without_nan(ns_[i]);
        Row row{.bench = options_.bench,
                .group = options_.title,
                .id = c.id,
                .params = c.params,
                .unit = options_.unit,
                .clock = to_string(options_.clock),
                .form = c.form,
                .ns = median(seen),
                .min = std::ranges::min(seen),
                .rounds = seen.size(),
                .baseline = options_.baseline,
                .ratio = {},
                .verdicts = {},
                .figures = c.figures ? c.figures() : Params{},
                .ratio_of = options_.ratio_of};
        const bool rates = options_.ratio_of == RatioOf::rates;
        const std::vector<double> all = ratios(ns_[rates ? baseline : i], ns_[rates ? i : baseline]);
        if (all.size() >= fewest_rounds) row.ratio = median(all);
        for (const Target& target : c.targets) row.verdicts.push_back(judge(target, i));
        run_.results.add(std::move(row));
    }
}

}  // namespace bench
