// SPDX-License-Identifier: MIT
// Bench "readers": what it costs to enter and leave a read section, by threads, and what it costs to wait for readers. A new
// flavour is one entry of flavours().
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "membarrier.hpp"
#include "reader_flavours.hpp"

namespace bench {
namespace {

using namespace readers;

constexpr std::size_t full_rounds = 11, quick_rounds = 5;
constexpr std::size_t sections_between_questions = 64;  // to Worker::stopped()

// What the busy reader does. Set while there is none.
void (*busy_read)(std::size_t sections) = nullptr;
void read_some() { busy_read(16); }

void read_while_asked(Worker& worker, const Flavour& flavour) {
    flavour.read(1);  // registers the thread, where that is needed
    worker.start();
    while (worker.warming()) flavour.read(sections_between_questions);
    worker.begin();
    std::uint64_t sections = 0;
    for (; !worker.stopped(); sections += sections_between_questions) flavour.read(sections_between_questions);
    worker.count(sections, 0);
    worker.finish();
}

std::string nanoseconds(double ns) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", ns);
    return text;
}

// What a section costs beside the loop that it stands in: a line for each flavour, a column for each number of threads.
class Differences {
public:
    explicit Differences(const std::vector<const Flavour*>& all)
        : table_{.bench = "readers",
                 .title = "enter and leave: ns above empty",
                 .text = "Medians over the rounds of the difference to empty in the same round, by number of threads.",
                 .head = {"threads"},
                 .lines = {}} {
        for (const Flavour* flavour : all) table_.lines.push_back({flavour->id});
    }
    // Of each flavour, its rounds; the first flavour is the baseline.
    void add(std::size_t threads, const std::vector<std::vector<double>>& rounds) {
        table_.head.push_back(std::to_string(threads));
        for (std::size_t i = 0; i < rounds.size(); ++i) {
            std::vector<double> above;
            for (std::size_t round = 0; round < rounds[i].size(); ++round)
                above.push_back(rounds[i][round] - rounds.front()[round]);
            table_.lines[i].push_back(nanoseconds(median(std::move(above))));
        }
    }
    Table take() { return std::move(table_); }

private:
    Table table_;
};

std::vector<Target> section_targets(const Flavour& flavour, std::size_t threads, bool has_urcu) {
    if (flavour.id != "dynfunc" || threads != 1) return {};
    std::vector<Target> targets = {ns_above_at_most(1)};
    if (has_urcu) targets.push_back(ratio_to_at_most("urcu-memb", 1));
    return targets;
}

void measure_sections(Run& run, const std::vector<Flavour>& all, std::size_t threads, Differences& differences) {
    Group group(run, {.bench = "readers",
                      .title = "enter and leave: " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
                      .text = "Each thread enters, reads one word that nobody writes, and leaves; empty is the same without "
                              "entering and leaving. Nobody waits for the readers meanwhile.",
                      .baseline = all.front().id,
                      .unit = "ns per section",
                      .clock = Clock::each_thread_cpu});
    const Params params = {{"threads", static_cast<std::int64_t>(threads)}};
    const Burst burst = scaling_burst(threads, run.quick);
    const bool has_urcu =
        std::ranges::any_of(all, [](const Flavour& flavour) { return flavour.id == "urcu-memb" && flavour.read != nullptr; });
    std::vector<std::vector<double>> rounds;
    rounds.reserve(all.size());
    for (const Flavour& flavour : all) {
        if (flavour.read == nullptr) {
            group.leave_out(flavour.id, params, flavour.absent);
            continue;
        }
        std::vector<double>& own = rounds.emplace_back();
        group.add({.id = flavour.id,
                   .params = params,
                   .sample =
                       [&burst, &flavour, &own] {
                           const Outcome outcome =
                               run_threads(burst, [&](Worker& worker) { read_while_asked(worker, flavour); });
                           return own.emplace_back(outcome.each_thread_ns());
                       },
                   .targets = section_targets(flavour, threads, has_urcu)});
    }
    group.measure();
    differences.add(threads, rounds);
}

GroupOptions waiting(std::string title, std::string text, Clock clock) {
    return {.bench = "readers",
            .title = std::move(title),
            .text = std::move(text),
            .baseline = register_sync_memory() ? "membarrier" : "dynfunc",
            .unit = "ns per synchronize",
            .clock = clock};
}

// Those that can wait for readers, and the system call that several of them consist of. `add` completes a case.
template <class Add>
void add_waits(Group& group, const std::vector<Flavour>& all, Add add) {
    if (register_sync_memory())
        add(
            Case{.id = "membarrier"}, +[] { sync_memory(); });
    else
        group.leave_out("membarrier", {}, "the system refuses membarrier(PRIVATE_EXPEDITED)");
    for (const Flavour& flavour : all) {
        if (flavour.read == nullptr) group.leave_out(flavour.id, {}, flavour.absent);
        if (flavour.synchronize == nullptr) continue;
        flavour.read(1);  // a thread that is known, so that none has an empty list to pass over
        add(Case{.id = flavour.id}, flavour.synchronize);
    }
}

void measure_waiting_alone(Run& run, const std::vector<Flavour>& all) {
    Group group(run, waiting("synchronize(), no reader",
                             "The one thread there is has read before and reads no more. membarrier: that system call alone.",
                             Clock::thread_cpu));
    add_waits(group, all, [&](Case c, void (*once)()) {
        c.run = [once](std::uint64_t n) {
            for (std::uint64_t i = 0; i < n; ++i) once();
        };
        group.add(std::move(c));
    });
    group.measure();
}

void measure_waiting_for_a_reader(Run& run, const std::vector<Flavour>& all) {
    Group group(run,
                waiting("synchronize(), one busy reader",
                        "While another thread enters and leaves without pause, each flavour's own sections; in membarrier "
                        "those of empty. A sample counts only if that thread was seen to run just before and just after it.",
                        Clock::wall));
    if (BusyCallers::other_cores() == 0) {
        group.leave_out("dynfunc", {}, "needs a second core");
        return;
    }
    add_waits(group, all, [&](Case c, void (*once)()) {
        auto* read = all.front().read;
        for (const Flavour& flavour : all)
            if (flavour.id == c.id) read = flavour.read;
        c.sample = [once, read] {
            busy_read = read;
            const BusyCallers reader(&read_some, 1);
            return median_latency(reader, once);
        };
        group.add(std::move(c));
    });
    group.measure();
}

}  // namespace

void bench_readers(Run& run) {
    const std::vector<Flavour> all = flavours();
    std::vector<const Flavour*> here;
    for (const Flavour& flavour : all)
        if (flavour.read != nullptr) here.push_back(&flavour);
    Run own{run.results, run.quick ? quick_rounds : full_rounds, run.quick, run.matrix};
    Differences differences(here);
    for (const std::size_t threads : scaling_threads(run.quick)) measure_sections(own, all, threads, differences);
    measure_waiting_alone(own, all);
    measure_waiting_for_a_reader(own, all);
    run.results.add(differences.take());
}

}  // namespace bench
