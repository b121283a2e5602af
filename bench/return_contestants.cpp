// SPDX-License-Identifier: MIT
#include "return_contestants.hpp"

#include <dynfunc/return_probe.hpp>
#include <dynfunc/typed_wrap.hpp>
#include <utility>

#include "hijack_peer.hpp"
#include "kernel_uprobe.hpp"

namespace bench::probes {
namespace {

using Options = dynfunc::ReturnOptions<dynfunc::NoCallData>;

[[gnu::target("general-regs-only")]] dynfunc::Track track(dynfunc::NoCallData&, dynfunc::Registers&) {
    return dynfunc::Track::track;
}
[[gnu::target("general-regs-only")]] void do_nothing(dynfunc::NoCallData&, dynfunc::Registers&) {}

Arming arm_ours(Sites sites, Options options) {
    std::vector<dynfunc::ProbeTarget> targets;
    for (const Site& site : sites) targets.emplace_back(dynfunc::Address{site.address()});
    options.max_active = most_active();
    auto attached = dynfunc::ReturnProbe<>::attach(targets, options);
    if (!attached) return std::unexpected(attached.error().message());
    const auto probe = std::make_shared<const dynfunc::ReturnProbe<>>(*std::move(attached));
    const char* const site_class = dynfunc::to_string(probe->probes().front().info().site_class);
    return Armed{probe, std::string("class ") + site_class, [probe = probe.get()] { return probe->counts().missed; }};
}

Arming arm_hijacked(Sites sites, HijackEntries entries) {
    auto peer = HijackPeer::arm(sites, entries, most_active());
    if (!peer) return std::unexpected(peer.error());
    return Armed{*peer, {}, [peer = peer->get()] { return peer->missed(); }};
}

}  // namespace

std::size_t most_active() { return 4 * scaling_threads(false).back(); }

Arming arm_return(Sites sites) { return arm_ours(sites, {.on_return = &do_nothing, .needs = dynfunc::Needs::registers}); }
Arming arm_return_entry(Sites sites) {
    return arm_ours(sites, {.on_entry = &track, .on_return = &do_nothing, .needs = dynfunc::Needs::registers});
}
Arming arm_return_vectors(Sites sites) { return arm_ours(sites, {.on_return = &do_nothing, .needs = dynfunc::Needs::vectors}); }

Arming arm_return_typed(Sites sites) {
    std::vector<dynfunc::TypedWrap> wraps;
    for (const Site& site : sites) {
        auto wrap = dynfunc::wrap_typed(site.function, [](auto original, int x) { return original(x); });
        if (!wrap) return std::unexpected(wrap.error().message());
        wraps.push_back(*std::move(wrap));
    }
    return Armed{std::make_shared<const std::vector<dynfunc::TypedWrap>>(std::move(wraps))};
}

Arming arm_hijack(Sites sites) { return arm_hijacked(sites, HijackEntries::array); }
Arming arm_hijack_pool(Sites sites) { return arm_hijacked(sites, HijackEntries::pool); }
Arming arm_hijack_freelist(Sites sites) { return arm_hijacked(sites, HijackEntries::freelist); }

Arming arm_kernel_uretprobe(Sites sites) {
    std::vector<KernelUprobe> probes;
    for (const Site& site : sites) {
        auto probe = KernelUprobe::attach(site.address(), KernelUprobe::At::return_);
        if (!probe) return std::unexpected(probe.error());
        probes.push_back(*std::move(probe));
    }
    const auto kept = std::make_shared<const std::vector<KernelUprobe>>(std::move(probes));
    return Armed{kept, kept->front().note()};
}

}  // namespace bench::probes
