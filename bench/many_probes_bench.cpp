// SPDX-License-Identifier: MIT
// Bench "many_probes": 40,000 probes of which 20,000 are enabled; what that costs as the number grows; what a hit costs then.
#include <malloc.h>
#include <sys/mman.h>
#include <dynfunc/probe.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "benches.hpp"
#include "module.hpp"

namespace bench {
namespace {

using Function = int(int);
using Functions = std::span<Function* const>;

constexpr std::size_t registered = 40'000, enabled = 20'000, by_mprotect = 1000;

[[gnu::target("general-regs-only")]] dynfunc::AfterHit do_nothing(dynfunc::ProbeHit&) { return dynfunc::AfterHit::keep; }

template <class Operation>
double timed(Operation&& operation) {
    const double begin = now(Clock::wall);
    operation();
    return now(Clock::wall) - begin;
}

std::size_t heap_bytes() {
    const struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
}

// Probes on some of the functions, registered once, and disabled at first.
class Registered {
public:
    explicit Registered(Functions functions) : functions_(functions) {}

    // What it took the first time. Empty: everything went well.
    const std::string& error() const { return error_; }
    double attach() {
        if (probes_.empty() && error_.empty()) attach_once();
        return attach_ns_;
    }
    double first_enable(std::size_t count) {
        if (std::isnan(first_enable_ns_)) first_enable_ns_ = enable(count);
        return first_enable_ns_;
    }
    // Others stay as they are.
    double enable(std::size_t count) {
        if (probes_.size() < count) return std::nan("");
        dynfunc::Result<void> done;
        const double ns = timed([&] { done = dynfunc::Probe::enable(first(count)); });
        if (!done) error_ = done.error().message();
        return done ? ns : std::nan("");
    }
    double disable(std::size_t count) {
        if (probes_.size() < count) return std::nan("");
        return timed([&] { dynfunc::Probe::disable(first(count)); });
    }
    std::int64_t heap_bytes_each() const { return static_cast<std::int64_t>(heap_bytes_ / functions_.size()); }

private:
    std::span<dynfunc::Probe> first(std::size_t count) { return std::span(probes_).first(std::min(count, probes_.size())); }

    void attach_once() {
        constexpr std::size_t at_once = 10'000;
        const std::size_t before = heap_bytes();
        attach_ns_ = 0;
        probes_.reserve(functions_.size());
        for (std::size_t i = 0; i < functions_.size(); i += at_once) {
            std::vector<dynfunc::ProbeRequest> requests;
            for (Function* function : functions_.subspan(i, std::min(at_once, functions_.size() - i)))
                requests.push_back(
                    {function, {.on_hit = &do_nothing, .needs = dynfunc::Needs::registers, .is_enabled = false}});
            dynfunc::Result<std::vector<dynfunc::Probe>> made;
            attach_ns_ += timed([&] { made = dynfunc::Probe::attach(requests); });
            if (!made) {
                error_ = made.error().message();
                attach_ns_ = std::nan("");
                return probes_.clear();
            }
            std::ranges::move(*made, std::back_inserter(probes_));
            if (functions_.size() > at_once)
                std::fprintf(stderr, "    %zu of %zu probes registered, %.2f s\n", probes_.size(), functions_.size(),
                             attach_ns_ / 1e9);
        }
        heap_bytes_ = heap_bytes() - before;
    }

    Functions functions_;
    std::vector<dynfunc::Probe> probes_;
    std::string error_;
    double attach_ns_ = std::nan(""), first_enable_ns_ = std::nan("");
    std::size_t heap_bytes_ = 0;
};

// What those do who have no writing of their own: the page is made writable, five bytes are written, and back.
double write_by_mprotect(Functions functions) {
    constexpr std::uintptr_t page = 4096, jump = 5;
    bool done = true;
    const double ns = timed([&] {
        for (Function* function : functions) {
            const auto at = reinterpret_cast<std::uintptr_t>(function), begin = at / page * page;
            const std::size_t size = (at + jump + page - 1) / page * page - begin;
            void* const pages = reinterpret_cast<void*>(begin);
            done = done && mprotect(pages, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
            if (!done) return;
            auto* const bytes = reinterpret_cast<volatile unsigned char*>(at);
            for (std::size_t k = 0; k < jump; ++k) bytes[k] = bytes[k];
            done = mprotect(pages, size, PROT_READ | PROT_EXEC) == 0;
        }
    });
    return done ? ns / static_cast<double>(functions.size()) : std::nan("");
}

void add_sizes(Group& group, const std::shared_ptr<Registered>& probes, std::size_t count, std::size_t on,
               const std::vector<Target>& reenable_targets, const std::vector<Target>& disable_targets) {
    const std::string all = std::string("-").append(std::to_string(count)), some = std::string("-").append(std::to_string(on));
    const auto params = [](std::size_t number) { return Params{{"functions", static_cast<std::int64_t>(number)}}; };
    const auto each = [](double ns, std::size_t number) { return ns / static_cast<double>(number); };
    group.add({.id = "register" + all,
               .params = params(count),
               .sample = [=] { return each(probes->attach(), count); },
               .figures =
                   [=] {
                       return Params{{"heap_bytes_each", probes->heap_bytes_each()}};
                   }});
    group.add({.id = "enable" + some, .params = params(on), .sample = [=] { return each(probes->first_enable(on), on); }});
    group.add({.id = "disable" + some,
               .params = params(on),
               .sample = [=] { return each(probes->disable(on), on); },
               .targets = disable_targets});
    group.add({.id = "reenable" + some,
               .params = params(on),
               .sample = [=] { return each(probes->enable(on), on); },
               .targets = reenable_targets});
}

[[gnu::noinline]] void call(Function* function, std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) asm volatile("" ::"r"(function(static_cast<int>(i))));
}
[[gnu::noinline]] void call_all(const std::vector<Function*>& functions) {
    for (std::size_t i = 0; i < functions.size(); ++i) asm volatile("" ::"r"(functions[i](static_cast<int>(i))));
}
std::vector<Function*> shuffled(Functions functions) {
    std::vector<Function*> all(functions.begin(), functions.end());
    std::ranges::shuffle(all, std::minstd_rand(1));
    return all;
}

void measure_hits(Run& run, Functions functions, Function* unprobed, const std::shared_ptr<Registered>& probes) {
    constexpr std::size_t calls = 200'000;
    Group group(run,
                {.bench = "many_probes",
                 .title = "a hit among 40,000 probes",
                 .text = "unprobed, hit-1, hit-20000: one function is called again and again; it has no probe, the only one "
                         "that is enabled, one of 20,000. -all: 20,000 functions are called in random order, those whose "
                         "probes are disabled and those whose probes are enabled.",
                 .baseline = "unprobed"});
    const auto timed_call = [](Function* function) {
        const double begin = now(Clock::thread_cpu);
        call(function, calls);
        return (now(Clock::thread_cpu) - begin) / calls;
    };
    const auto timed_all = [](const std::vector<Function*>& all) {
        call_all(all);
        const double begin = now(Clock::thread_cpu);
        call_all(all);
        return (now(Clock::thread_cpu) - begin) / static_cast<double>(all.size());
    };
    const auto on = shuffled(functions.first(enabled)), off = shuffled(functions.subspan(enabled, registered - enabled));
    Function* const probed = functions.front();
    group.add({.id = "unprobed", .sample = [=] { return timed_call(unprobed); }});
    group.add({.id = "hit-1", .sample = [=] {
                   probes->disable(enabled);
                   probes->enable(1);
                   return timed_call(probed);
               }});
    group.add({.id = "hit-20000",
               .sample =
                   [=] {
                       probes->enable(enabled);
                       return timed_call(probed);
                   },
               .targets = {ratio_to_at_most("hit-1", 1.1)}});
    group.add({.id = "disabled-all", .sample = [=] { return timed_all(off); }});
    group.add({.id = "hit-20000-all", .sample = [=] { return timed_all(on); }});
    group.measure();
}

// By breakpoints alone, in random order.
void measure_traps(Run& run, Functions functions, Functions unprobed) {
    Group group(
        run,
        {.bench = "many_probes",
         .title = "a trap among 20,000 breakpoints",
         .text = "20,000 functions are called in random order: unprobed, and each with a breakpoint (AllowBreakpoint::always), "
                 "with set_probe_cache() off and on.",
         .baseline = "unprobed-all"});
    std::vector<dynfunc::ProbeRequest> requests;
    for (Function* function : functions)
        requests.push_back(
            {function,
             {.on_hit = &do_nothing, .needs = dynfunc::Needs::registers, .breakpoint = dynfunc::AllowBreakpoint::always}});
    auto probes = dynfunc::Probe::attach(requests);
    if (!probes) return group.leave_out("trap-20000-all", {}, probes.error().message());
    const auto timed_all = [](const std::vector<Function*>& all, bool with_cache) {
        if (!dynfunc::set_probe_cache(with_cache)) return std::nan("");
        const double begin = now(Clock::thread_cpu);
        call_all(all);
        const double ns = (now(Clock::thread_cpu) - begin) / static_cast<double>(all.size());
        static_cast<void>(dynfunc::set_probe_cache(false));
        return ns;
    };
    const auto on = shuffled(functions), off = shuffled(unprobed);
    group.add({.id = "unprobed-all", .sample = [&] { return timed_all(off, false); }});
    group.add({.id = "trap-20000-all", .sample = [&] { return timed_all(on, false); }});
    group.add({.id = "trap-20000-all-cached", .sample = [&] { return timed_all(on, true); }});
    group.measure();
    dynfunc::Probe::detach(*probes);
}

}  // namespace

void bench_many_probes(Run& run) {
    const char* const why_not = "needs many functions to probe: ";
    const Module module("dynfunc-bench-many.so");
    auto* const begin = module.symbol<Function*>("many_functions");
    Functions left;
    if (begin != nullptr) left = {begin, module.symbol<Function*>("many_functions_end")};
    const auto take = [&left](std::size_t count) {
        const Functions taken = left.first(count);
        left = left.subspan(count);
        return taken;
    };

    Group group(run,
                {.bench = "many_probes",
                 .title = "40,000 probes, 20,000 of them enabled",
                 .text = "register: attached and disabled, in batches of 10,000; stubs are written. enable: their jumps go "
                         "in for the first time; disable, reenable: out, and in again. register and enable are measured "
                         "once in a run. mprotect: for each function, its page is made writable, five bytes are "
                         "written, and back, as simple hooking libraries do.",
                 .baseline = "mprotect",
                 .unit = "ns per function",
                 .clock = Clock::wall});
    if (begin == nullptr) return group.leave_out("register-40000", {}, why_not + module.error());
    const Functions simple = take(by_mprotect);
    const Functions functions = take(registered);
    const auto probes = std::make_shared<Registered>(functions);
    if (std::isnan(probes->attach())) return group.leave_out("register-40000", {}, probes->error());
    group.add({.id = "mprotect", .sample = [=] { return write_by_mprotect(simple); }});
    add_sizes(group, probes, registered, enabled, {ns_at_most(10e6 / enabled)}, {ns_at_most(20e6 / enabled)});
    // Of both together: a second.
    group.add({.id = "register-and-enable",
               .params = {{"functions", static_cast<std::int64_t>(registered)}},
               .sample = [=] { return (probes->attach() + probes->first_enable(enabled)) / registered; },
               .targets = {ns_at_most(1e9 / registered)}});
    group.measure();
    measure_hits(run, functions, simple.front(), probes);
    probes->disable(enabled);

    Group growing(run, {.bench = "many_probes",
                        .title = "as the number grows",
                        .text = "As above, all of them enabled.",
                        .baseline = "reenable-1000",
                        .unit = "ns per function",
                        .clock = Clock::wall});
    for (const std::size_t count : {1000, 10'000, 100'000})
        add_sizes(growing, std::make_shared<Registered>(take(count)), count, count, {}, {});
    growing.measure();

    const Functions trapped = take(enabled);
    Run fewer{run.results, std::size_t{5}, run.quick};
    measure_traps(fewer, trapped, functions.first(enabled));
    bench_lookups(run);
}

}  // namespace bench
