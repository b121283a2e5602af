// SPDX-License-Identifier: MIT
// Measures cases against each other in one run.
//
//     Group group(run, {.bench = "calls", .title = "hot site", .baseline = "direct", .unit = "ns per call"});
//     group.add({.id = "direct", .run = &loop_direct});
//     group.add({.id = "dynfunc", .run = &loop_dynfunc, .targets = {ratio_at_most(1.05)}});
//     group.measure();
//
// Method: each case is calibrated to about 2.5 ms; each of 25 rounds (quick: 7) runs every case once; a ratio is the median
// over the rounds of case / baseline in that round, so both were measured milliseconds apart. Time is CPU time of this thread,
// which other work on the machine does not disturb; wall time where an operation blocks or another core takes part. A ratio has
// a baseline of its own group or does not exist: a group whose baseline was not added ends the program. With RatioOf::rates a
// ratio is that of operations per second, so above 1 is more than the baseline.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "results.hpp"

namespace bench {

// program_cpu: of a program that was run; read from it. threads_cpu: of the threads of a burst (threads.hpp), shared out to the
// CPUs; each_thread_cpu: of one of them; processes_cpu: as threads_cpu, of processes.
enum class Clock : std::uint8_t { thread_cpu, wall, program_cpu, threads_cpu, each_thread_cpu, processes_cpu };

// Nanoseconds since some moment, of the first two.
double now(Clock) noexcept;

double median(std::vector<double> values);

// The CPUs this process may use, and the one the measuring thread is pinned to: the last of them.
const std::vector<int>& allowed_cpus();
int measuring_cpu();
void pin_to(int cpu);

struct Target {
    enum class Kind : std::uint8_t {
        ns_at_most,
        ns_above_at_most,
        ratio_at_most,
        ratio_to_at_most,
        times_faster,
        gib_per_s_at_least,
        rate_at_least,
        rate_of_best_at_least,
        rate_of_earlier_at_least
    } kind;
    double limit;
    std::string against = {};               // ratio_to_at_most, times_faster, rate_at_least: the id of the other case
    std::vector<std::string> best_of = {};  // rate_of_best_at_least: ids, of which those count that are there
    double earlier_ns = 0;                  // rate_of_earlier_at_least: what `against` took
};
Target ns_at_most(double ns);
Target ns_above_at_most(double ns);                             // the group's baseline, same round
Target gib_per_s_at_least(double gib);                          // of a case in ns per KiB
Target ratio_at_most(double ratio);                             // to the group's baseline
Target ratio_to_at_most(const std::string& id, double ratio);   // to another case than the baseline, same round
Target times_faster_than(const std::string& id, double times);  // other case's time / this case's time, same round
// Where more is better: operations per second, over those of ...
Target rate_at_least(const std::string& id, double times);                           // another case, same round
Target rate_of_best_at_least(std::vector<std::string> ids, double times);            // the best of them by median, same round
Target rate_of_earlier_at_least(std::string what, double earlier_ns, double share);  // a row of another group

struct Case {
    std::string id;
    Params params = {};
    std::function<void(std::uint64_t n)> run = {};  // runs n operations
    double elements = 1;                            // of one operation; the row is per element
    std::function<double()> sample = {};  // instead of run: one round's nanoseconds, or NaN if the situation did not occur
    std::vector<Target> targets = {};
    std::string form = {};
    std::function<Params()> figures = {};  // asked when all rounds are done
};

// One run of the program.
struct Run {
    Results& results;
    std::size_t rounds;
    bool quick;
    bool matrix = false;  // everything that a bench can vary, instead of what a page needs
};

struct GroupOptions {
    std::string bench, title;
    std::string text = {};  // one or two sentences for the page
    std::string baseline;   // the id of one case of this group
    std::string unit = "ns per call";
    Clock clock = Clock::thread_cpu;
    RatioOf ratio_of = RatioOf::times;
};

class Group {
public:
    Group(Run& run, GroupOptions options);

    void add(Case c) { cases_.push_back(std::move(c)); }
    void leave_out(std::string id, Params params, std::string reason);
    // Runs all rounds and hands the rows over. A group without cases is left alone.
    void measure();
    // Once measured: the median of a case, or NaN if there is none.
    double median_ns(const std::string& id) const;

private:
    std::size_t index_of(const std::string& id) const;
    bool has(const std::string& id) const;
    std::vector<double> ratios(const std::vector<double>& numerator, const std::vector<double>& denominator) const;
    Verdict judge(const Target&, std::size_t index) const;
    Verdict judge_against_best(const Target&, std::size_t index) const;

    Run& run_;
    GroupOptions options_;
    std::vector<Case> cases_;
    std::vector<std::vector<double>> ns_;  // per case, per round; NaN where the situation did not occur
};

}  // namespace bench
