// SPDX-License-Identifier: MIT
// Preloaded into a program: puts a probe, or a return probe, on every function of some of its modules before main, and reports
// at the end.
//
//     DYNFUNC_AGENT_MODULES   names of modules, with colons between them; a dot is the program
//     DYNFUNC_AGENT_REPORT    where the report goes
//     DYNFUNC_AGENT_RETURNS   how many calls each return probe tracks at once; they are what is attached if it is set
//     DYNFUNC_AGENT_SPOILS    if it is set, the probes change an argument, or a result
#include <dynfunc/inspect.hpp>
#include <dynfunc/probe.hpp>
#include <dynfunc/return_probe.hpp>

#include <sys/auxv.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace {

using dynfunc::SiteClass;

[[gnu::target("general-regs-only")]] dynfunc::AfterHit look(dynfunc::ProbeHit&) { return dynfunc::AfterHit::keep; }

// The negative control: a probe that changes a little what it should only look at.
[[gnu::target("general-regs-only")]] dynfunc::AfterHit spoil(dynfunc::ProbeHit& hit) {
    hit.registers.integer(1) ^= 1;
    return dynfunc::AfterHit::keep;
}

using dynfunc::NoCallData, dynfunc::Registers;
[[gnu::target("general-regs-only")]] dynfunc::Track enter(NoCallData&, Registers&) { return dynfunc::Track::track; }
[[gnu::target("general-regs-only")]] void end(NoCallData&, Registers&) {}
[[gnu::target("general-regs-only")]] void spoil_result(NoCallData&, Registers& registers) { registers.result() ^= 1; }
void unwind(NoCallData&) {}

// How many calls are tracked at once; 0: probes, not return probes.
std::size_t most_returns() {
    const char* const returns = std::getenv("DYNFUNC_AGENT_RETURNS");
    return returns != nullptr ? static_cast<std::size_t>(std::atol(returns)) : 0;
}

struct Agent {
    std::vector<dynfunc::Probe> probes;
    std::vector<dynfunc::ReturnProbe<>> return_probes;  // of many functions each
    std::map<std::string, std::size_t> refused;         // by reason
    std::size_t functions = 0;

    // Without those that are refused.
    void attach(std::span<const dynfunc::ProbeRequest> requests) {
        const auto error = most_returns() == 0 ? attach_probes(requests) : attach_return_probe(requests);
        if (!error) return;
        if (requests.size() == 1) {
            ++refused[error->message().substr(0, error->message().find(" at 0x"))];
        } else {
            const std::size_t half = requests.size() / 2;
            attach(requests.first(half));
            attach(requests.subspan(half));
        }
    }
    std::optional<dynfunc::Error> attach_probes(std::span<const dynfunc::ProbeRequest> requests) {
        auto attached = dynfunc::Probe::attach(requests);
        if (!attached) return attached.error();
        for (auto& probe : *attached) probes.push_back(std::move(probe));
        return std::nullopt;
    }
    std::optional<dynfunc::Error> attach_return_probe(std::span<const dynfunc::ProbeRequest> requests) {
        std::vector<dynfunc::ProbeTarget> targets;
        for (const auto& request : requests) targets.push_back(request.target);
        auto attached = dynfunc::ReturnProbe<>::attach(
            targets, {.on_entry = &enter,
                      .on_return = std::getenv("DYNFUNC_AGENT_SPOILS") != nullptr ? &spoil_result : &end,
                      .on_unwind = &unwind,
                      .max_active = most_returns(),
                      .needs = dynfunc::Needs::registers});
        if (!attached) return attached.error();
        return_probes.push_back(std::move(*attached));
        return std::nullopt;
    }

    void attach_module(const std::string& name) {
        const auto found =
            name == "." ? dynfunc::inspect(dynfunc::Address{getauxval(AT_ENTRY)}) : dynfunc::inspect_module(name);
        if (!found) {
            ++refused[found.error().message()];
            return;
        }
        const auto handler = std::getenv("DYNFUNC_AGENT_SPOILS") != nullptr ? &spoil : &look;
        std::vector<dynfunc::ProbeRequest> requests;
        for (const dynfunc::FunctionVerdict& function : found->functions) {
            if (function.why_not_better && function.why_not_better->code == dynfunc::Errc::no_unwind_entry) continue;
            ++functions;
            requests.push_back({function.begin, {.on_hit = handler, .needs = dynfunc::Needs::registers}});
        }
        constexpr std::size_t at_once = 256;
        for (std::size_t i = 0; i < requests.size(); i += at_once)
            attach(std::span(requests).subspan(i, std::min(at_once, requests.size() - i)));
    }

    void report(const char* path) const {
        std::FILE* const file = std::fopen(path, "w");
        if (file == nullptr) return;
        std::array<std::size_t, dynfunc::site_classes> classes{};
        std::size_t hit = 0, missed = 0;
        unsigned long long hits = 0;
        const auto add = [&](const dynfunc::Probe& probe) {
            ++classes[static_cast<std::size_t>(probe.info().site_class)];
            hits += probe.hits();
            hit += probe.hits() != 0;
            missed += probe.missed();
        };
        dynfunc::ReturnCounts returns{};
        std::size_t in_flight = 0;
        for (const dynfunc::Probe& probe : probes) add(probe);
        for (const auto& probe : return_probes) {
            for (const dynfunc::Probe& each : probe.probes()) add(each);
            const dynfunc::ReturnCounts counts = probe.counts();
            returns.missed += counts.missed;
            returns.unwound += counts.unwound;
            returns.stale += counts.stale;
            in_flight += probe.in_flight();
        }
        std::fprintf(file, "functions %zu\n", functions);
        for (const SiteClass each : {SiteClass::whole, SiteClass::guarded, SiteClass::punned, SiteClass::breakpoint})
            std::fprintf(file, "%s %zu\n", dynfunc::to_string(each), classes[static_cast<std::size_t>(each)]);
        std::fprintf(file, "hit %zu\nhits %llu\nmissed %zu\n", hit, hits, missed);
        if (most_returns() != 0)
            std::fprintf(file, "untracked %llu\nunwound %llu\nstale %llu\nin_flight %zu\n",
                         static_cast<unsigned long long>(returns.missed), static_cast<unsigned long long>(returns.unwound),
                         static_cast<unsigned long long>(returns.stale), in_flight);
        for (const auto& [reason, count] : refused) std::fprintf(file, "refused %zu %s\n", count, reason.c_str());
        std::fclose(file);
    }
};

Agent& agent() {
    static auto* const only = new Agent;  // functions run until the very end
    return *only;
}

[[gnu::constructor]] void start() {
    const char* const modules = std::getenv("DYNFUNC_AGENT_MODULES");
    if (modules == nullptr) return;
    std::istringstream names(modules);
    for (std::string name; std::getline(names, name, ':');) agent().attach_module(name);
    unsetenv("LD_PRELOAD");
}

[[gnu::destructor]] void stop() {
    if (const char* const report = std::getenv("DYNFUNC_AGENT_REPORT")) agent().report(report);
}

}  // namespace
