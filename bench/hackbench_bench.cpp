// SPDX-License-Identifier: MIT
// Bench "hackbench": four programs made from hackbench.cpp, with all their tracepoints on. The published measurement that it
// repeats was made inside the Linux kernel, whose tracepoints were given direct calls.
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "benches.hpp"
#include "child.hpp"

namespace bench {
namespace {

struct Build {
    const char* id;
    double published_seconds, published_percent;
};
constexpr std::array<Build, 4> builds = {{{"pointers", 31.20, 0},
                                          {"retpolines", 33.97, 8.9},
                                          {"retpolines-dynfunc", 32.15, 3.0},
                                          {"pointers-dynfunc", 31.00, -0.6}}};

constexpr double messages_of_loop = 400;  // of one group
constexpr std::int64_t counted_loops = 3;

// One way to run the programs.
struct Mode {
    const char* title;
    const char* word;  // on the command line; null: none
    Cpus cpus;
    Clock clock;
    std::int64_t loops;
    std::size_t rounds, quick_rounds;
};
constexpr Mode threads = {"threads", nullptr, Cpus::all, Clock::wall, 100, 10, 3};
constexpr Mode processes = {"processes", "--processes", Cpus::all, Clock::wall, 100, 10, 3};
constexpr Mode one_cpu = {"threads, on one CPU", nullptr, Cpus::measuring, Clock::program_cpu, 20, 51, 9};

std::vector<std::string> command(const Build& build, const Mode& mode, bool on, std::int64_t loops) {
    std::vector<std::string> words = {program_folder() / (std::string("dynfunc-hackbench-") + build.id), "--loops",
                                      std::to_string(loops)};
    if (mode.word != nullptr) words.emplace_back(mode.word);
    if (!on) words.emplace_back("--off");
    return words;
}

// What a program says of one run.
struct Outcome {
    double seconds, cpu_seconds, messages, events;
    std::string form;
};

std::expected<Outcome, std::string> run_once(const Build& build, const Mode& mode, bool on, std::int64_t loops) {
    const auto said = run_program(command(build, mode, on, loops), mode.cpus);
    if (!said) return std::unexpected(said.error());
    Outcome made{};
    std::istringstream line(*said);
    if (line >> made.seconds >> made.cpu_seconds >> made.messages >> made.events >> made.form) return made;
    return std::unexpected(std::string(build.id) + " said: " + *said);
}

// All runs of one build in one mode.
struct Series {
    std::vector<double> seconds, ns_per_message;
    std::vector<double> ratios;  // to the first build, in the same round
    Outcome last{};

    Params figures() const {
        return {{"seconds_us", std::llround(median(seconds) * 1e6)},
                {"messages", std::llround(last.messages)},
                {"events", std::llround(last.events)},
                {"events_per_s", std::llround(last.events / median(seconds))}};
    }
};
using AllBuilds = std::array<Series, builds.size()>;

// Adds a case for each build; `all` is filled as the group is measured.
void add_builds(Group& group, const Mode& mode, bool on, AllBuilds& all) {
    for (std::size_t i = 0; i < builds.size(); ++i) {
        const Build& build = builds[i];
        const std::string id = build.id + std::string(on ? "" : "-off");
        const auto tried = run_once(build, mode, on, 1);  // also warms up
        if (!tried) {
            group.leave_out(id, {}, tried.error());
            continue;
        }
        const auto sample = [&build, &mode, on, &series = all[i], &first = all[0]] {
            const auto outcome = run_once(build, mode, on, mode.loops);
            if (!outcome) return std::nan("");
            series.last = *outcome;
            series.seconds.push_back(outcome->seconds);
            const double seconds = mode.clock == Clock::wall ? outcome->seconds : outcome->cpu_seconds;
            series.ns_per_message.push_back(seconds * 1e9 / outcome->messages);
            if (!first.ns_per_message.empty())
                series.ratios.push_back(series.ns_per_message.back() / first.ns_per_message.back());
            return series.ns_per_message.back();
        };
        group.add({.id = id, .sample = sample, .form = tried->form == "none" ? "" : tried->form, .figures = [&series = all[i]] {
                       return series.figures();
                   }});
    }
}

struct Measured {
    AllBuilds on, off;
};

void measure(Run& run, const Mode& mode, bool also_off, Measured& measured) {
    Run own{run.results, run.quick ? mode.quick_rounds : mode.rounds, run.quick};
    Group group(own,
                {.bench = "hackbench",
                 .title = mode.title,
                 .text = "20 senders, 20 receivers, 100-byte messages over socket pairs, 24 events a message, each with one "
                         "callback that counts it and writes a record of 8 bytes. pointers: an event is a flag test and a "
                         "walk over an array of functions, with indirect calls. retpolines: the same, the program compiled "
                         "with retpolines. -dynfunc: dynfunc's tracepoints, callbacks of static lifetime. -off: the same "
                         "program, no callback attached. A round runs each "
                         "program once, one after the other. Most of the time is the kernel's; on all CPUs the scheduler "
                         "decides more than the events do, on one CPU it has less to decide.",
                 .baseline = builds[0].id,
                 .unit = "ns per message",
                 .clock = mode.clock});
    add_builds(group, mode, true, measured.on);
    if (also_off) add_builds(group, mode, false, measured.off);
    group.measure();
}

// Instructions that the workers execute in user space, per message: counted by callgrind, as virtual machines seldom have the
// processor's counters. --smc-check: it must see code that is patched.
std::expected<double, std::string> instructions(const Build& build, bool on) {
    std::vector<std::string> words = {"valgrind", "--tool=callgrind", "--smc-check=all", "--callgrind-out-file=/dev/null",
                                      "--toggle-collect=hackbench::run(hackbench::Worker const&)"};
    for (std::string& word : command(build, one_cpu, on, counted_loops)) words.push_back(std::move(word));
    const auto said = run_program(words, Cpus::measuring);
    if (!said) return std::unexpected(said.error());
    constexpr std::string_view before = "Collected : ";
    const std::size_t at = said->find(before);
    if (at == std::string::npos) return std::unexpected("callgrind said no count");
    return std::strtod(said->c_str() + at + before.size(), nullptr) / (messages_of_loop * counted_loops);
}

std::string text_of(const char* format, double value) {
    char text[48];
    std::snprintf(text, sizeof text, format, value);
    return text;
}
std::string percent_over(double ratio) { return text_of("%+.1f %%", (ratio - 1) * 100); }
std::string ns(const Series& series) { return text_of("%.0f ns", median(series.ns_per_message)); }

void add_published_table(Results& results, const AllBuilds& in_threads, const AllBuilds& in_processes,
                         const AllBuilds& on_one) {
    Table table{
        .bench = "hackbench",
        .title = "beside the published figures",
        .text =
            "Published: jump_function in the Linux kernel, hackbench with all trace events on, 10 runs. There the "
            "retpolines and the dynamic functions are the kernel's; here they are the program's, and the kernel "
            "below is the same for all four. Only the order of the builds compares: how large the differences are "
            "depends on how many events a message has, here 24 by our choice. %: over the first build, median over the "
            "rounds of the ratio in that round. Seconds: wall time of one run; one CPU: CPU time per message; events/s: "
            "threads. On one CPU 2 % may be noise, on all CPUs 20 % was: run it again.",
        .head = {"build", "published", "%", "threads", "%", "processes", "%", "one CPU", "%", "events/s"},
        .lines = {}};
    for (std::size_t i = 0; i < builds.size(); ++i) {
        if (in_threads[i].seconds.empty() || in_processes[i].seconds.empty() || on_one[i].seconds.empty()) continue;
        table.lines.push_back({builds[i].id, text_of("%.2f s", builds[i].published_seconds),
                               text_of("%+.1f %%", builds[i].published_percent),
                               text_of("%.3f s", median(in_threads[i].seconds)), percent_over(median(in_threads[i].ratios)),
                               text_of("%.3f s", median(in_processes[i].seconds)), percent_over(median(in_processes[i].ratios)),
                               ns(on_one[i]), percent_over(median(on_one[i].ratios)),
                               text_of("%.0f", in_threads[i].last.events / median(in_threads[i].seconds))});
    }
    results.add(std::move(table));
}

void add_events_table(Results& results, const Measured& measured) {
    Table table{.bench = "hackbench",
                .title = "what the events are of it",
                .text =
                    "On one CPU, CPU time per message with the events off and on, and what share the events are of it (median "
                    "over the rounds). Instructions: of the workers in user space, per message, counted by callgrind in a run "
                    "of 1,200 messages; the processor's own counters are not used, as few virtual machines have them.",
                .head = {"build", "form", "off", "on", "events' share", "instructions off", "on", "% of on", "per event"},
                .lines = {}};
    std::optional<double> first;
    for (std::size_t i = 0; i < builds.size(); ++i) {
        const Series &on = measured.on[i], &off = measured.off[i];
        if (on.seconds.empty() || on.seconds.size() != off.seconds.size()) continue;
        std::vector<double> shares;
        for (std::size_t round = 0; round < on.seconds.size(); ++round)
            shares.push_back(1 - off.ns_per_message[round] / on.ns_per_message[round]);
        std::vector<std::string> line = {builds[i].id, on.last.form, ns(off), ns(on), text_of("%.1f %%", median(shares) * 100)};
        const auto count_off = instructions(builds[i], false), count_on = instructions(builds[i], true);
        if (count_off && count_on) {
            if (!first) first = *count_on;
            line.insert(line.end(), {text_of("%.1f", *count_off), text_of("%.1f", *count_on), percent_over(*count_on / *first),
                                     text_of("%.1f", (*count_on - *count_off) * on.last.messages / on.last.events)});
        } else {
            results.add(LeftOut{"hackbench",
                                one_cpu.title,
                                std::string("instructions of ") + builds[i].id,
                                {},
                                (count_off ? count_on : count_off).error()});
            line.insert(line.end(), 4, "-");
        }
        table.lines.push_back(std::move(line));
    }
    results.add(std::move(table));
}

}  // namespace

void bench_hackbench(Run& run) {
    Measured in_threads, in_processes, on_one;
    measure(run, threads, false, in_threads);
    measure(run, processes, false, in_processes);
    measure(run, one_cpu, true, on_one);
    add_published_table(run.results, in_threads.on, in_processes.on, on_one.on);
    add_events_table(run.results, on_one);
}

}  // namespace bench
