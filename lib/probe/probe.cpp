// SPDX-License-Identifier: MIT
// What users of probes call.
#include <dynfunc/probe.hpp>
#include <dynfunc/typed_probe.hpp>

#include <utility>

#include "breakpoints.hpp"
#include "probes.hpp"
#include "reclaim.hpp"

namespace dynfunc {

using detail::Consumer;

void dynfunc_disable_after_hit(void* entry, Registers*) noexcept {
    Probes::instance().disable_after_hit(*static_cast<const ConsumerList::Entry*>(entry)->consumer);
}

Result<Probe> Probe::attach(const ProbeTarget& target, const ProbeOptions& options) {
    const ProbeRequest request{target, options};
    auto attached = attach({&request, 1});
    if (!attached) return std::unexpected(attached.error());
    return std::move(attached->front());
}

Result<std::vector<Probe>> Probe::attach(std::span<const ProbeRequest> requests) { return Probes::instance().attach(requests); }

void set_probes_in_children(InChildren what) { Probes::instance().keep_in_children(what); }

Result<void> set_probe_cache(bool on) noexcept { return Probes::instance().set_cache(on); }
bool has_probe_cache() noexcept { return Breakpoints::has_cache(); }

void Probe::detach_nosync() noexcept {
    if (consumer_ == nullptr) return;
    Consumer* const consumer = std::exchange(consumer_, nullptr);
    Probes::instance().detach(std::span<Consumer* const>(&consumer, 1));
}

void Probe::detach() noexcept {
    if (consumer_ == nullptr) return;
    detach_nosync();
    if (!is_in_section()) synchronize();
}

void detail::detach_with(Probe& probe, Retired& owned) noexcept {
    probe.detach_nosync();
    retire(owned);
    if (!is_in_section()) synchronize();
}

void Probe::detach(std::span<Probe> probes) noexcept {
    if (Probes::instance().detach(probes) && !is_in_section()) synchronize();
}

Result<void> Probe::enable() { return enable({this, 1}); }
Result<void> Probe::enable(std::span<Probe> probes) { return Probes::instance().enable(probes); }

void Probe::disable() noexcept { disable({this, 1}); }
void Probe::disable(std::span<Probe> probes) noexcept {
    // Also if they are disabled already: whoever did it may still wait for threads inside.
    if (Probes::instance().disable(probes) && !is_in_section()) synchronize();
}

bool Probe::is_enabled() const noexcept {
    return consumer_ != nullptr && !__atomic_load_n(&consumer_->is_disabled, __ATOMIC_RELAXED);
}

std::uint64_t Probe::hits() const noexcept {
    return consumer_ == nullptr ? 0 : count_hits(consumer_->counter) - consumer_->hits_before;
}

std::uint64_t Probe::missed() const noexcept {
    if (consumer_ == nullptr) return 0;
    return __atomic_load_n(&consumer_->place->hit.missed, __ATOMIC_RELAXED) - consumer_->missed_before;
}

ProbeInfo Probe::info() const { return consumer_ == nullptr ? ProbeInfo{} : Probes::instance().info(*consumer_); }

}  // namespace dynfunc
