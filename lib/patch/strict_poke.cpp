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

Address instruction_of(const Poke& poke) noexcept {
    return poke.size == arch::capabilities().reference_bytes ? arch::reference_begin(poke.at) : poke.at;
}

// A breakpoint on the opcode of a call site is a debugger's, or was left by a raw clone in the middle of a strict update. It
// stays; nobody runs what is behind it.
bool is_under_trap(const Poke& poke) noexcept {
    const Address begin = instruction_of(poke);
    return begin != poke.at && *begin.as<const std::byte*>() == arch::breakpoint().bytes[0];
}

// The instruction around what changes.
Replacement replacement_of(const Poke& poke) noexcept {
    const bool under_trap = is_under_trap(poke);
    Replacement made{.at = under_trap ? poke.at : instruction_of(poke), .is_under_trap = under_trap, .element = poke.element};
    const auto lead = static_cast<std::size_t>(poke.at - made.at);
    made.size = static_cast<std::uint8_t>(lead + poke.size);
    std::memcpy(made.before.data(), made.at.as<const void*>(), lead);
    std::memcpy(made.before.data() + lead, &poke.expected, poke.size);
    made.after = made.before;
    std::memcpy(made.after.data() + lead, &poke.replacement, poke.size);
    return made;
}

// What a thread does that traps at the instruction, if `value` is what changes of it.
Result<void> enter(const Poke& poke, std::uint64_t value) noexcept {
    const Address begin = instruction_of(poke);
    const auto lead = static_cast<std::size_t>(poke.at - begin);
    Breakpoints::SiteCode code{};
    if (!is_under_trap(poke))
        std::memcpy(code.data(), begin.as<const void*>(), lead);
    else if (!Breakpoints::find(begin, code))
        return {};  // a debugger's, who knows what stood there
    std::memcpy(code.data() + lead, &value, std::min<std::size_t>(poke.size, code.size() - lead));
    return Breakpoints::enter(begin, code);
}

constinit std::atomic<bool> strict{false};

}  // namespace

Result<void> StrictPoke::commit(std::initializer_list<std::span<const Poke>> parts) noexcept {
    replacements_.clear();
    for (const auto part : parts)
        for (const Poke& poke : part)
            if (!replacements_.push_back(replacement_of(poke)))
                return std::unexpected(Error{.code = Errc::out_of_memory, .address = poke.at, .element = poke.element});
    if (auto handled = Breakpoints::handle(); !handled) return handled;
    for (const auto part : parts)
        for (const Poke& poke : part)
            if (auto entered = enter(poke, poke.replacement); !entered) return entered;
    auto done = GuardedPoke(*backend().writing, true).commit(std::span<const Replacement>(replacements_));
    if (done) return done;
    for (const auto part : parts)
        for (const Poke& poke : part) static_cast<void>(enter(poke, poke.expected));  // is there: no memory
    return done;
}

void StrictPoke::require() noexcept { strict.store(true, std::memory_order_relaxed); }

bool updates_are_strict() noexcept {
    return backend().writing != nullptr && arch::steps_over_sites() &&
           (backend().strict || strict.load(std::memory_order_relaxed));
}

}  // namespace dynfunc
