// SPDX-License-Identifier: MIT
// Bench "pool": what object pools and allocators do in a second. A group is one situation; in each round every contestant runs
// one burst in it, back to back.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "benches.hpp"
#include "pool_contestants.hpp"
#include "pool_memory.hpp"

namespace bench {
namespace {

using namespace pool;

constexpr std::size_t full_rounds = 9, quick_rounds = 3;

// What a group is about.
struct Situation {
    Mode mode;
    std::size_t threads;
    std::size_t bulk = 1;
    std::size_t size = 64;
    bool aligned = true;
    bool few = false;  // only the contestants whose figures depend on it

    bool usual_objects() const { return size == 64 && aligned; }
    bool oversubscribed() const { return threads > allowed_cpus().size(); }
    std::size_t objects() const { return mode == Mode::misses ? 8 : mode == Mode::handed_over ? 512 : 256; }
    Load load(bool quick) const {
        // Longer where threads take turns: several turns for each.
        const double seconds = oversubscribed() ? (quick ? 0.025 : 0.036) : (quick ? 0.008 : 0.010);
        return {mode, bulk, threads, size, aligned, objects(), seconds};
    }
    Params params() const {
        return {{"mode", std::string(pool::to_string(mode))},
                {"bulk", static_cast<std::int64_t>(bulk)},
                {"threads", static_cast<std::int64_t>(threads)},
                {"size", static_cast<std::int64_t>(size)},
                {"aligned", aligned ? 1 : 0}};
    }
    std::string title() const {
        std::string text = pool::to_string(mode);
        if (mode == Mode::bulk) text += ": bulk " + std::to_string(bulk);
        text += (mode == Mode::bulk ? ", " : ": ") + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
        if (!usual_objects()) text += ", " + std::to_string(size) + " bytes, " + (aligned ? "aligned" : "packed");
        return text;
    }
};

std::string text_of(Mode mode) {
    switch (mode) {
        case Mode::at_once:
            return "A: each thread pops one and pushes it, of 256 objects.";
        case Mode::bulk:
            return "B: each thread pops several in a row and pushes them all, of 256 objects. Bulk 100 leaves none for a third "
                   "thread; bulk 16 leaves some for 8 threads.";
        case Mode::misses:
            return "C: the same with bulk 16 and 8 objects in all, so that at least half of the pops find nothing. Only hits "
                   "count; "
                   "both are shown. An allocator never misses, so its figures are of other work.";
        case Mode::handed_over:
            return "X: pairs of threads; one pops and hands over through 256 slots, the other, on another CPU, pushes; of 512 "
                   "objects. From 4 threads on the slots can hold all objects, so that this is also about having too few. An "
                   "allocator has no such bound.";
        default:
            return "interrupt: A, while a timer's signal handler pops and pushes too, every 50 us in each thread. Only "
                   "contestants "
                   "that a signal handler may use.";
    }
}

// Those whose figures tell what the size and the place of objects cost.
bool is_few(const std::string& id) {
    for (const char* one :
         {"freelist", "percpu-freelist", "array", "ring", "thread-local", "malloc", "mimalloc", "dynfunc", "dynfunc-tagged"})
        if (id == one) return true;
    return false;
}

std::optional<std::string> why_not(const Contestant& contestant, const Situation& situation) {
    if (contestant.burst == nullptr) return contestant.absent;
    const bool shared = situation.mode == Mode::misses || situation.mode == Mode::handed_over;
    if (shared && !contestant.moves_objects) return "what one thread pushes stays with it: there is nothing to compare";
    if (situation.mode == Mode::interrupt && contestant.not_in_handlers != nullptr) return contestant.not_in_handlers;
    if (!contestant.aligns && situation.aligned && situation.size % cache_line != 0)
        return "objects are where the allocator puts them, to 16 bytes";
    return std::nullopt;
}

const std::vector<std::string> stealing_peers = {"array",       "ring",        "percpu-freelist", "mutex",       "moodycamel",
                                                 "boost-stack", "boost-queue", "tbb-bounded",     "urcu-lfstack"};

// Nanoseconds of a pair, by contestant, with 2 threads: what oversubscription is held against.
using WithTwoThreads = std::map<std::string, double>;

std::vector<Target> targets_of(const std::string& id, const Situation& situation, const WithTwoThreads& with_two) {
    if (!situation.usual_objects()) return {};
    const std::size_t threads = situation.threads;
    const auto baseline = [](double times) { return std::vector<Target>{rate_at_least("freelist", times)}; };
    if (id == "dynfunc") switch (situation.mode) {
            case Mode::at_once:
                if (threads == 1) return {rate_at_least("freelist", 5), rate_at_least("thread-local", 0.95)};
                if (threads == 2) return {rate_at_least("freelist", 40), rate_of_best_at_least(stealing_peers, 2.6)};
                return {};
            case Mode::bulk:
                return situation.bulk == 16 && threads == 2 ? baseline(100) : std::vector<Target>{};
            case Mode::misses:
                return baseline(threads == 2 ? 2 : 1);
            case Mode::handed_over:
                return baseline(threads == 2 ? 8 : 2);
            default:
                return {};
        }
    if (id == "dynfunc-tagged" && situation.mode == Mode::at_once) {
        if (threads == 2) return baseline(10);
        const auto before = with_two.find(id);
        if (situation.oversubscribed() && before != with_two.end())
            return {rate_of_earlier_at_least("its own with 2 threads", before->second, 0.9)};
    }
    return {};
}

// All rounds of one contestant in one situation.
struct Series {
    double seconds = 0, hits = 0, misses = 0, interrupts = 0, misses_in_interrupts = 0;
    std::vector<double> cpu_shares;

    void add(const Outcome& outcome) {
        seconds += outcome.seconds;
        hits += static_cast<double>(outcome.hits);
        misses += static_cast<double>(outcome.misses);
        interrupts += static_cast<double>(outcome.interrupts);
        misses_in_interrupts += static_cast<double>(outcome.misses_in_interrupts);
        cpu_shares.push_back(outcome.cpu_share);
    }
    Params figures(const Situation& situation) const {
        Params params = {{"cpu_percent", std::llround(median(cpu_shares) * 100)}};
        if (misses > 0 || situation.mode == Mode::misses) {
            params.push_back({"hits_per_s", std::llround(hits / seconds)});
            params.push_back({"misses_per_s", std::llround(misses / seconds)});
        }
        if (situation.mode == Mode::interrupt) {
            params.push_back({"interrupts_per_s", std::llround(interrupts / seconds)});
            params.push_back({"misses_in_interrupts", std::llround(misses_in_interrupts)});
        }
        return params;
    }
};

// The threads got less CPU than they could have had: other work ran. Once more, and the better of the two counts. `more` is how
// often a group may do that: on a machine that is always busy it would only take long.
constexpr double enough_cpu = 0.85;

double one_burst(const Contestant& contestant, const Load& load, Series& series, std::size_t& more) {
    Outcome outcome = contestant.burst(load);
    const bool sleeps = contestant.sleeps && load.threads > 1;
    if (outcome.cpu_share < enough_cpu && !sleeps && more > 0) {
        --more;
        const Outcome again = contestant.burst(load);
        if (again.cpu_share > outcome.cpu_share) outcome = again;
    }
    series.add(outcome);
    return outcome.ns();
}

void measure(Run& run, const std::vector<Contestant>& all, const Situation& situation, WithTwoThreads& with_two) {
    Group group(run, {.bench = "pool",
                      .title = situation.title(),
                      .text = text_of(situation.mode),
                      .baseline = all.front().id,
                      .unit = "ns per pair",
                      .clock = Clock::wall,
                      .ratio_of = RatioOf::rates});
    const Load load = situation.load(run.quick);
    std::map<std::string, Series> series;
    std::size_t more = all.size();
    for (const Contestant& contestant : all) {
        if (situation.few && !is_few(contestant.id)) continue;
        if (const auto reason = why_not(contestant, situation)) {
            group.leave_out(contestant.id, situation.params(), *reason);
            continue;
        }
        Series& own = series[contestant.id];
        group.add({.id = contestant.id,
                   .params = situation.params(),
                   .sample = [&contestant, &load, &own, &more] { return one_burst(contestant, load, own, more); },
                   .targets = targets_of(contestant.id, situation, with_two),
                   .form = contestant.form,
                   .figures = [&own, &situation] { return own.figures(situation); }});
    }
    group.measure();
    if (situation.mode == Mode::at_once && situation.threads == 2 && situation.usual_objects())
        for (const Contestant& contestant : all) with_two[contestant.id] = group.median_ns(contestant.id);
}

// What a page needs.
std::vector<Situation> some_situations() {
    std::vector<Situation> chosen;
    for (const std::size_t threads : {1, 2, 4, 8}) chosen.push_back({Mode::at_once, threads});
    for (const std::size_t threads : {1, 2, 4, 8}) chosen.push_back({Mode::bulk, threads, 16});
    for (const std::size_t bulk : {1, 2, 4, 8, 100}) chosen.push_back({Mode::bulk, 2, bulk});
    for (const std::size_t threads : {1, 2, 4, 8}) chosen.push_back({Mode::misses, threads, 16});
    for (const std::size_t threads : {2, 4, 8}) chosen.push_back({Mode::handed_over, threads});
    for (const Mode mode : {Mode::at_once, Mode::bulk})
        for (const auto& [size, aligned] : {std::pair<std::size_t, bool>{512, true}, {40, true}, {40, false}})
            chosen.push_back({mode, 2, mode == Mode::bulk ? std::size_t{16} : 1, size, aligned, true});
    for (const std::size_t threads : {1, 2}) chosen.push_back({Mode::interrupt, threads});
    return chosen;
}

// Everything that varies, as far as the machine goes.
std::vector<Situation> all_situations() {
    std::vector<Situation> chosen;
    for (const Mode mode : {Mode::at_once, Mode::bulk, Mode::misses, Mode::handed_over, Mode::interrupt})
        for (const std::size_t bulk : {1, 2, 4, 8, 16, 100})
            for (const auto& [size, aligned] : {std::pair<std::size_t, bool>{64, true}, {512, true}, {40, true}, {40, false}})
                for (const std::size_t threads : {1, 2, 4, 8, 10, 16, 20, 24, 32, 40, 48, 96}) {
                    if (threads > 2 * allowed_cpus().size()) break;
                    const bool has_bulk = mode == Mode::bulk || (mode == Mode::misses && bulk == 16);
                    if (!has_bulk && bulk != 1) continue;
                    if (mode == Mode::misses && bulk != 16) continue;
                    if (mode == Mode::handed_over && threads % 2 != 0) continue;
                    const bool usual = size == 64;
                    // Bulk and packing are varied one at a time.
                    if (!usual && (mode == Mode::interrupt || (mode == Mode::bulk && bulk != 16))) continue;
                    chosen.push_back({mode, threads, bulk, size, aligned, size == 40});
                }
    return chosen;
}

}  // namespace

void bench_pool(Run& run) {
    const std::vector<Contestant> all = contestants();
    Run own{run.results, run.quick ? quick_rounds : full_rounds, run.quick, run.matrix};
    WithTwoThreads with_two;
    for (const Situation& situation : run.matrix ? all_situations() : some_situations()) measure(own, all, situation, with_two);
    add_memory_table(run.results);
}

}  // namespace bench
