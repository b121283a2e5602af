// SPDX-License-Identifier: MIT
#include "guarded_poke.hpp"

#include <cstring>

#include "fatal.hpp"
#include "probe_stub.hpp"

namespace dynfunc {
namespace {

constexpr int steps = 4;

std::size_t word_of(Address at) noexcept { return at.value / arch::capabilities().word_bytes; }

}  // namespace

bool Replacement::needs_breakpoints() const noexcept { return word_of(at) != word_of(at + (size - 1)); }

// What byte k is after so many steps.
std::byte GuardedPoke::value(const Replacement& each, std::size_t k, int steps_done) const noexcept {
    const std::byte trap = arch::breakpoint().bytes[0];
    if (steps_done == 0) return each.before[k];
    if (!in_steps(each)) return steps_done < steps ? each.before[k] : each.after[k];
    if (k == 0) return steps_done < steps ? trap : each.after[0];
    if ((each.boundaries >> k & 1) == 0) return steps_done < 2 ? each.before[k] : each.after[k];
    return each.after[k] == trap || steps_done >= 3 ? each.after[k] : each.before[k];
}

// What changes between two steps, word by word.
bool GuardedPoke::collect(std::span<const Replacement> batch, int from, int to) noexcept {
    pokes_.clear();
    for (const Replacement& each : batch) {
        for (std::size_t k = 0; k < each.size; ++k) {
            if (value(each, k, from) == value(each, k, to)) continue;
            Poke poke{.at = each.at + static_cast<std::ptrdiff_t>(k),
                      .expected = 0,
                      .replacement = 0,
                      .element = each.element,
                      .size = 0};
            for (; k < each.size && word_of(each.at + static_cast<std::ptrdiff_t>(k)) == word_of(poke.at); ++k) {
                poke.expected |= std::to_integer<std::uint64_t>(value(each, k, from)) << (8 * poke.size);
                poke.replacement |= std::to_integer<std::uint64_t>(value(each, k, to)) << (8 * poke.size);
                ++poke.size;
            }
            --k;
            if (!pokes_.push_back(poke)) return false;
        }
    }
    return true;
}

Result<void> GuardedPoke::commit(std::span<const Replacement> batch) noexcept {
    // Every byte: also those that stay as they are must be what the plan was made for.
    for (const Replacement& each : batch)
        if (std::memcmp(each.at.as<const void*>(), each.before.data(), each.size) != 0)
            return std::unexpected(foreign_bytes(each.at, each.element));
    // What a step needs is less than this, so that none of them wants for memory.
    if (!pokes_.reserve(2 * batch.size() + 1)) return std::unexpected(Error{.code = Errc::out_of_memory});
    Result<void> done;
    for (int step = 0; done && step < steps; ++step) {
        static_cast<void>(collect(batch, step, step + 1));
        if (pokes_.empty()) continue;
        done = poke_.commit(pokes_);
        for (int back = step; !done && back > 0; --back) {
            static_cast<void>(collect(batch, back, back - 1));
            if (!pokes_.empty() && !poke_.commit(pokes_))
                fatal("code was changed in part, and the system refuses to let it be changed back");
        }
    }
    pokes_.release();
    return done;
}

}  // namespace dynfunc
