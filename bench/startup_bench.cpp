// SPDX-License-Identifier: MIT
// What 10,000 dynamic functions, or 10,000 branch sites, cost when the object that holds them starts. Two shared objects with
// the same bytes are loaded in turn; one of them announces its tables to the library, the other does not. What their call sites
// cost, in processes of their own.
#include <cmath>
#include <cstdio>
#include <dynfunc/capabilities.hpp>
#include <functional>
#include <memory>

#include "benches.hpp"
#include "fresh_process.hpp"
#include "module.hpp"

namespace bench {
namespace {

double load_ns(const std::string& name) {
    const double begin = now(Clock::thread_cpu);
    const Module module(name);
    const double ns = now(Clock::thread_cpu) - begin;
    return module.error().empty() ? ns : std::nan("");
}

void measure(Run& run, GroupOptions options, const Params& params, const std::string& module) {
    options.baseline = "dlopen";
    options.unit = "ns per start";
    Group group(run, options);
    const std::string silent = module + "-silent.so", announced = module + ".so";
    for (const std::string& name : {silent, announced})
        if (const Module tried(name); !tried.error().empty()) {
            group.leave_out("registration", params, tried.error());
            return;
        }
    // The cases of a round run in the order in which they were added, so the third finds what the other two measured.
    struct Round {
        double silent, announced;
    };
    const auto round = std::make_shared<Round>();
    group.add({.id = "dlopen", .params = params, .sample = [=] { return round->silent = load_ns(silent); }});
    group.add({.id = "dlopen-dynfunc", .params = params, .sample = [=] { return round->announced = load_ns(announced); }});
    group.add({.id = "registration",
               .params = params,
               .sample = [=] { return round->announced - round->silent; },
               .targets = {ns_at_most(5e6)}});
    group.measure();
}

// The environment as a user would set it; "default": not at all.
struct Setting {
    const char* id;
    std::vector<std::string> environment;
};
const Setting settings[] = {
    {"call-sites-0", {"DYNFUNC_CALL_SITES=0"}}, {"default", {}}, {"call-sites-1", {"DYNFUNC_CALL_SITES=1"}}};

std::string milliseconds(double ns) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f ms", ns / 1e6);
    return text;
}

// The columns of the table and what each shows.
struct Moment {
    const char* head;
    double Start::*ns;
};
constexpr Moment moments[] = {{"dlopen", &Start::load},
                              {"first retarget", &Start::first},
                              {"second retarget", &Start::again},
                              {"first retarget of all", &Start::all},
                              {"once more", &Start::all_again}};

// When the work is done that call sites need: at the start, at the first change, or never.
void measure_when(Run& run, const std::string& module) {
    Run own{run.results, run.quick ? std::size_t{5} : std::size_t{11}, run.quick};
    Group group(own,
                {.bench = "retarget",
                 .title = "start-up with call sites",
                 .text = "In a fresh process an object with 10,000 functions, each called from one call site, 8 call sites to "
                         "a function around them, is loaded; its tables not announced (dlopen), with DYNFUNC_CALL_SITES=0, "
                         "by default, with DYNFUNC_CALL_SITES=1. What the default puts off is in the table below: the first "
                         "retarget() reads the text of all, and the instructions around the call sites of one.",
                 .baseline = "dlopen",
                 .unit = "ns per start"});
    const Params params = {{"functions", 10000}};
    const std::string silent = module + "-silent.so", announced = module + ".so";
    if (const auto tried = start_fresh({}, announced); !tried) {
        group.leave_out("default", params, tried.error());
        return;
    }
    group.add({.id = "dlopen", .params = params, .sample = [=] {
                   const auto seen = start_fresh({}, silent);
                   return seen ? seen->load : std::nan("");
               }});
    std::vector<std::shared_ptr<std::vector<Start>>> all;
    for (const Setting& setting : settings) {
        const auto starts = all.emplace_back(std::make_shared<std::vector<Start>>());
        group.add({.id = setting.id,
                   .params = params,
                   .sample =
                       [=, &setting] {
                           const auto seen = start_fresh(setting.environment, announced);
                           if (!seen) return std::nan("");
                           starts->push_back(*seen);
                           return seen->load;
                       },
                   .form = to_string(dynfunc::capabilities().form),
                   .figures =
                       [=] {
                           return Params{{"sites_patched", std::llround(starts->back().patched)},
                                         {"first_retarget_ns", std::llround(starts->back().first)}};
                       }});
    }
    group.measure();

    Table table{.bench = "retarget",
                .title = "what call sites cost, and when",
                .text =
                    "10,000 functions, CPU time, medians of the group \"start-up with call sites\". Patched: of 10,000 call "
                    "sites, at the end. Private pages: of text and trampolines that are no longer shared with other "
                    "processes.",
                .head = {"DYNFUNC_CALL_SITES"},
                .lines = {}};
    for (const Moment& moment : moments) table.head.emplace_back(moment.head);
    table.head.insert(table.head.end(), {"patched", "private pages"});
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (all[i]->empty()) continue;
        std::vector<std::string> line = {settings[i].id};
        for (const Moment& moment : moments) {
            std::vector<double> ns;
            for (const Start& start : *all[i]) ns.push_back(start.*moment.ns);
            line.push_back(milliseconds(median(ns)));
        }
        line.push_back(std::to_string(std::llround(all[i]->back().patched)));
        line.push_back(std::to_string(std::llround(all[i]->back().private_pages)));
        table.lines.push_back(std::move(line));
    }
    run.results.add(std::move(table));
}

}  // namespace

void bench_startup(Run& run) {
    measure(run,
            {.bench = "retarget",
             .title = "start-up of 10,000 functions",
             .text = "dlopen: an object with 10,000 dynamic functions is loaded, its tables not announced. dlopen-dynfunc: the "
                     "same object announces them, every trampoline is patched. registration: the second less the first.",
             .baseline = {}},
            {{"functions", 10000}}, "dynfunc-bench-startup");
    measure_when(run, "dynfunc-bench-startup");
}

void bench_branch_startup(Run& run) {
    measure(
        run,
        {.bench = "static_keys",
         .title = "start-up of 10,000 branch sites",
         .text = "dlopen: an object with 10,000 branch sites of one key, 64 bytes apart, is loaded, its tables not announced. "
                 "dlopen-dynfunc: the same object announces them, every site is patched. registration: the second less the "
                 "first.",
         .baseline = {}},
        {{"keys", 1}, {"sites", 10000}}, "dynfunc-bench-branch-startup");
}

}  // namespace bench
