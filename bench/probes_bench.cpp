// SPDX-License-Identifier: MIT
// Bench "probes": what a hit of a probe that does nothing costs, how that scales with threads, and what attaching costs. A new
// contestant is one entry of `contestants` below.
#include <cmath>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dynfunc/grace_period.hpp>
#include <dynfunc/probe.hpp>
#include <dynfunc/typed_probe.hpp>

#include "benches.hpp"
#include "int3_peer.hpp"
#include "kernel_uprobe.hpp"
#include "probe_scaling.hpp"

namespace bench {
namespace {

using namespace probes;

constexpr std::size_t full_rounds = 9, quick_rounds = 3;
constexpr std::size_t most_kernel_sites = 50;
static_assert(1 + most_kernel_sites <= copies_of_kernel);  // the first is the contestant's
constexpr std::string_view kernel = "kernel-uprobe";

Arming arm_int3(const Site& site) {
    auto peer = Int3Peer::arm(site);
    if (!peer) return std::unexpected(peer.error());
    return Armed{*std::move(peer)};
}

Arming arm_kernel_uprobe(const Site& site) {
    auto probe = KernelUprobe::attach(site.address(), KernelUprobe::At::entry);
    if (!probe) return std::unexpected(probe.error());
    const auto kept = std::make_shared<const KernelUprobe>(*std::move(probe));
    return Armed{kept, kept->note()};
}

[[gnu::target("general-regs-only")]] dynfunc::AfterHit do_nothing(dynfunc::ProbeHit&) { return dynfunc::AfterHit::keep; }

Arming arm_ours(const Site& site, dynfunc::Needs needs, dynfunc::AllowBreakpoint breakpoint) {
    auto probe = dynfunc::Probe::attach(dynfunc::Address{site.address()},
                                        {.on_hit = &do_nothing, .needs = needs, .breakpoint = breakpoint});
    if (!probe) return std::unexpected(probe.error().message());
    const char* const site_class = dynfunc::to_string(probe->info().site_class);
    return Armed{std::make_shared<const dynfunc::Probe>(*std::move(probe)), std::string("class ") + site_class};
}
Arming arm_typed(const Site& site) {
    auto probe = dynfunc::probe_typed(site.function, [] [[gnu::target("general-regs-only")]] (int&) {},
                                      {.needs = dynfunc::Needs::registers});
    if (!probe) return std::unexpected(probe.error().message());
    return Armed{std::make_shared<const dynfunc::TypedProbe>(*std::move(probe))};
}
Arming arm_registers(const Site& site) {
    return arm_ours(site, dynfunc::Needs::registers, dynfunc::AllowBreakpoint::if_needed);
}
Arming arm_vectors(const Site& site) { return arm_ours(site, dynfunc::Needs::vectors, dynfunc::AllowBreakpoint::if_needed); }
Arming arm_breakpoint(const Site& site) { return arm_ours(site, dynfunc::Needs::registers, dynfunc::AllowBreakpoint::always); }

constexpr Contestant contestants[] = {
    {"unprobed", &arm_nothing},
    {"int3", &arm_int3},  // takes SIGTRAP; ours take it later, and hand on
    {"typed", &arm_typed},
    {"registers", &arm_registers},
    {"vectors", &arm_vectors},
    {"breakpoint", &arm_breakpoint},
    {kernel, &arm_kernel_uprobe, true},
};

// Ways to attach to many functions. One row's sample attaches, the next one's lets go of what came out.
using Addresses = std::span<const std::uintptr_t>;
struct Way {
    std::string_view attach_id, detach_id;
    Arming (*attach)(Addresses);
};

Arming attach_events(Addresses addresses) {
    std::vector<KernelUprobe> probes;
    for (const std::uintptr_t address : addresses) {
        auto probe = KernelUprobe::attach(address, KernelUprobe::At::entry);
        if (!probe) return std::unexpected(probe.error());
        probes.push_back(*std::move(probe));
    }
    return Armed{std::make_shared<const std::vector<KernelUprobe>>(std::move(probes))};
}

Arming attach_link(Addresses addresses) {
    auto probes = KernelUprobes::attach(addresses, KernelUprobe::At::entry);
    if (!probes) return std::unexpected(probes.error());
    return Armed{std::make_shared<const KernelUprobes>(*std::move(probes))};
}

// The baseline is the first that this process can have.
constexpr Way ways[] = {
    {"kernel-attach", "kernel-detach", &attach_events},
    {"kernel-attach-multi", "kernel-detach-multi", &attach_link},
};

void measure_attaching(Run& run) {
    // Each event that is closed takes the kernel a tenth of a second.
    const std::size_t sites = run.quick ? 10 : most_kernel_sites;
    std::vector<std::uintptr_t> addresses;
    for (std::size_t i = 0; i < sites; ++i) addresses.push_back(targets().front().site(1 + i).address());

    std::vector<std::pair<const Way*, std::string>> refused;
    std::vector<const Way*> granted;
    for (const Way& way : ways)
        if (const Arming tried = way.attach(Addresses(addresses).first(1)); tried)
            granted.push_back(&way);
        else
            refused.emplace_back(&way, tried.error());

    Group group(run, {.bench = "probes",
                      .title = "attaching to " + std::to_string(sites) + " functions",
                      .text = "kernel-attach, kernel-detach: a perf event for each, opened and closed one by one. "
                              "kernel-attach-multi, kernel-detach-multi: one BPF link of the kind uprobe_multi for all.",
                      .baseline = std::string(granted.empty() ? "" : granted.front()->attach_id),
                      .unit = "ns per function",
                      .clock = Clock::wall});
    const Params params = {{"functions", static_cast<std::int64_t>(sites)}};
    for (const auto& [way, reason] : refused)
        for (const std::string_view id : {way->attach_id, way->detach_id}) group.leave_out(std::string(id), params, reason);
    Arming attached;
    const auto timed = [&](auto operation) {
        const double begin = now(Clock::wall);
        operation();
        return (now(Clock::wall) - begin) / static_cast<double>(sites);
    };
    for (const Way* const way : granted) {
        const auto attach = [&attached, &addresses, way] { attached = way->attach(addresses); };
        const auto detach = [&attached] { attached = Armed{}; };
        group.add({.id = std::string(way->attach_id), .params = params, .sample = [&timed, attach, &attached] {
                       const double ns = timed(attach);
                       return attached ? ns : std::nan("");
                   }});
        group.add({.id = std::string(way->detach_id), .params = params, .sample = [&timed, detach] { return timed(detach); }});
    }
    group.measure();
}

// Ours, on functions that were never probed, and again on the same ones.
class OwnAttaching {
public:
    explicit OwnAttaching(Run& run)
        : group_(run, {.bench = "probes",
                       .title = "attaching, of ours",
                       .text = "attach-N: N functions that were never probed, in one batch; reattach-N: the same again; "
                               "detach-N. -singly: one call each, detached without waiting, with one wait at the end.",
                       .baseline = "attach-1",
                       .unit = "ns per function",
                       .clock = Clock::wall}) {
        // From the back: the first copies are the contestants'.
        for (std::size_t i = copies; i-- > copies_of_kernel + std::size(contestants);)
            for (const TargetFunction& target : targets()) fresh_.push_back(target.site(i).address());
        for (const std::size_t sites : {1, 100, 1000}) add(sites, false);
        for (const std::size_t sites : {100, 1000}) add(sites, true);
        add_once(10'000);
        group_.measure();
    }

private:
    using Sites = std::vector<std::uintptr_t>;

    Sites take(std::size_t count) {
        Sites taken(fresh_.end() - static_cast<std::ptrdiff_t>(count), fresh_.end());
        fresh_.resize(fresh_.size() - count);
        return taken;
    }
    static dynfunc::ProbeOptions options() { return {.on_hit = &do_nothing, .needs = dynfunc::Needs::registers}; }
    template <class Operation>
    static double timed(std::size_t sites, Operation&& operation) {
        const double begin = now(Clock::wall);
        operation();
        return (now(Clock::wall) - begin) / static_cast<double>(sites);
    }
    double attach(const Sites& sites, bool singly) {
        std::vector<dynfunc::ProbeRequest> requests;
        for (const std::uintptr_t site : sites) requests.push_back({dynfunc::Address{site}, options()});
        bool granted = true;
        const double ns = timed(sites.size(), [&] {
            if (!singly) {
                if (auto attached = dynfunc::Probe::attach(requests))
                    probes_ = *std::move(attached);
                else
                    granted = false;
                return;
            }
            for (const auto& request : requests)
                if (auto attached = dynfunc::Probe::attach(request.target, request.options))
                    probes_.push_back(*std::move(attached));
                else
                    granted = false;
        });
        return granted ? ns : std::nan("");
    }
    double detach(bool singly) {
        const double ns = timed(probes_.size(), [&] {
            if (!singly) return dynfunc::Probe::detach(probes_);
            for (auto& probe : probes_) probe.detach_nosync();
            dynfunc::synchronize();
        });
        probes_.clear();
        return ns;
    }
    void add_rows(std::size_t count, bool singly, auto first) {
        std::string suffix("-");
        suffix.append(std::to_string(count)).append(singly ? "-singly" : "");
        const Params params = {{"functions", static_cast<std::int64_t>(count)}};
        group_.add({.id = "attach" + suffix, .params = params, .sample = first});
        group_.add({.id = "detach" + suffix, .params = params, .sample = [this, singly] { return detach(singly); }});
        group_.add({.id = "reattach" + suffix, .params = params, .sample = [this, singly] {
                        const double ns = attach(used_, singly);
                        detach(false);
                        return ns;
                    }});
    }
    void add(std::size_t count, bool singly) {
        add_rows(count, singly, [this, count, singly] {
            used_ = take(count);
            return attach(used_, singly);
        });
    }
    // There are not so many functions that each round could have its own: one sample.
    void add_once(std::size_t count) {
        add_rows(count, false, [this, count, ns = 0.0, sites = Sites()]() mutable {
            const bool is_first = sites.empty();
            if (is_first) sites = take(count);
            used_ = sites;
            const double now = attach(used_, false);
            if (is_first) ns = now;
            return ns;
        });
    }

    Group group_;
    Sites fresh_, used_;
    std::vector<dynfunc::Probe> probes_;
};

}  // namespace

void bench_probes(Run& run) {
    Run own{run.results, run.quick ? quick_rounds : full_rounds, run.quick};
    const Contest contest{
        .bench = "probes", .contestants = contestants, .compared = {kernel}, .threads = scaling_threads(run.quick)};
    for (const TargetFunction& target : targets()) measure_target(own, contest, target);
    Run fewer{run.results, quick_rounds, run.quick};  // closing the kernel's probes takes long
    measure_attaching(fewer);
    OwnAttaching own_attaching(fewer);
}

}  // namespace bench
