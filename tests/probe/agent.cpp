// SPDX-License-Identifier: MIT
// Preloaded into a program: puts a probe on every function of some of its modules before main, and reports at the end.
//
//     DYNFUNC_AGENT_MODULES   names of modules, with colons between them; a dot is the program
//     DYNFUNC_AGENT_REPORT    where the report goes
//     DYNFUNC_AGENT_SPOILS    if it is set, the probes change an argument
#include <dynfunc/inspect.hpp>
#include <dynfunc/probe.hpp>

#include <sys/auxv.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
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

struct Agent {
    std::vector<dynfunc::Probe> probes;
    std::map<std::string, std::size_t> refused;  // by reason
    std::size_t functions = 0;

    void attach(std::span<const dynfunc::ProbeRequest> requests) {
        if (auto attached = dynfunc::Probe::attach(requests)) {
            for (auto& probe : *attached) probes.push_back(std::move(probe));
        } else if (requests.size() == 1) {
            ++refused[attached.error().message().substr(0, attached.error().message().find(" at 0x"))];
        } else {
            const std::size_t half = requests.size() / 2;
            attach(requests.first(half));
            attach(requests.subspan(half));
        }
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
        for (const dynfunc::Probe& probe : probes) {
            ++classes[static_cast<std::size_t>(probe.info().site_class)];
            hits += probe.hits();
            hit += probe.hits() != 0;
            missed += probe.missed();
        }
        std::fprintf(file, "functions %zu\n", functions);
        for (const SiteClass each : {SiteClass::whole, SiteClass::guarded, SiteClass::punned, SiteClass::breakpoint})
            std::fprintf(file, "%s %zu\n", dynfunc::to_string(each), classes[static_cast<std::size_t>(each)]);
        std::fprintf(file, "hit %zu\nhits %llu\nmissed %zu\n", hit, hits, missed);
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
