// SPDX-License-Identifier: MIT
#include "strict_poke.hpp"

#include <dynfunc/strict_updates.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "arch.hpp"
#include "backend.hpp"
#include "breakpoints.hpp"
#include "probe_stub.hpp"

namespace dynfunc {
namespace {

// The instruction around what changes.
Replacement replacement_of(const Poke& poke) noexcept {
    Replacement made{.at = poke.at, .element = poke.element};
    if (poke.size == arch::capabilities().reference_bytes) made.at = arch::reference_begin(poke.at);
    const auto lead = static_cast<std::size_t>(poke.at - made.at);
    made.size = static_cast<std::uint8_t>(lead + poke.size);
    std::memcpy(made.before.data(), made.at.as<const void*>(), lead);
    std::memcpy(made.before.data() + lead, &poke.expected, poke.size);
    made.after = made.before;
    std::memcpy(made.after.data() + lead, &poke.replacement, poke.size);
    return made;
}

Result<void> enter(const Replacement& replacement, const std::array<std::byte, 8>& bytes) noexcept {
    Breakpoints::SiteCode code{};
    std::copy_n(bytes.begin(), code.size(), code.begin());
    return Breakpoints::enter(replacement.at, code);
}

constinit std::atomic<bool> strict{false};

}  // namespace

Result<void> StrictPoke::commit(std::initializer_list<std::span<const Poke>> parts) noexcept {
    replacements_.clear();
    for (const auto part : parts)
        for (const Poke& poke : part)
            if (!replacements_.push_back(replacement_of(poke)))
                return std::unexpected(Error{.code = Errc::out_of_memory, .address = poke.at, .element = poke.element});
    // A debugger's, or left by a raw clone in the middle of a strict update: nobody knows what stood there.
    for (const Replacement& each : replacements_)
        if (each.before[0] == arch::breakpoint().bytes[0] && each.size < sizeof each.before)
            return std::unexpected(foreign_bytes(each.at, each.element));
    if (auto handled = Breakpoints::handle(); !handled) return handled;
    for (const Replacement& each : replacements_)
        if (auto entered = enter(each, each.after); !entered) return entered;
    auto done = GuardedPoke(*backend().writing, true).commit(std::span<const Replacement>(replacements_));
    if (!done)
        for (const Replacement& each : replacements_) static_cast<void>(enter(each, each.before));  // is there: no memory
    return done;
}

void StrictPoke::require() noexcept { strict.store(true, std::memory_order_relaxed); }

bool updates_are_strict() noexcept {
    return backend().writing != nullptr && arch::steps_over_sites() &&
           (backend().strict || strict.load(std::memory_order_relaxed));
}

}  // namespace dynfunc
