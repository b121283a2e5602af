// SPDX-License-Identifier: MIT
#include "guarded_poke.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "fatal.hpp"
#include "probe_stub.hpp"

namespace dynfunc {
namespace {

constexpr int steps = 4;

static_assert(std::endian::native == std::endian::little);
constexpr std::uint64_t first_byte = 0xff, every_byte = ~std::uint64_t{0} / first_byte;

// 0xff where the byte is 0. (Warren, Hacker's Delight, 6-1.)
constexpr std::uint64_t bytes_that_are_zero(std::uint64_t word) noexcept {
    constexpr std::uint64_t low = 0x7f * every_byte;
    return ~(((word & low) + low) | word | low) / 0x80 * first_byte;
}

// 0xff where the bit of that byte is set.
std::uint64_t bytes_of(std::uint8_t bits) noexcept {
    const std::uint64_t each = every_byte * bits & 0x8040'2010'0804'0201;
    return bytes_that_are_zero(each) ^ ~std::uint64_t{0};
}

std::size_t word_of(Address at) noexcept { return at.value / arch::capabilities().word_bytes; }

}  // namespace

bool Replacement::needs_breakpoints() const noexcept { return word_of(at) != word_of(at + (size - 1)); }

// Its bytes after so many steps, the first one lowest.
std::uint64_t GuardedPoke::value(const Replacement& each, int steps_done) const noexcept {
    const auto before = std::bit_cast<std::uint64_t>(each.before), after = std::bit_cast<std::uint64_t>(each.after);
    if (steps_done == 0) return before;
    if (steps_done == steps) return after;
    if (!in_steps(each)) return before;
    const std::uint64_t traps = every_byte * std::to_integer<std::uint64_t>(arch::breakpoint().bytes[0]);
    const std::uint64_t boundaries = bytes_of(each.boundaries);
    // Of the boundaries those that read as a breakpoint afterwards: they are written at once.
    std::uint64_t is_after = boundaries & bytes_that_are_zero(after ^ traps);
    if (steps_done >= 2) is_after |= ~boundaries;
    if (steps_done >= 3) is_after |= boundaries;
    const std::uint64_t value = (before & ~is_after) | (after & is_after);
    return (value & ~first_byte) | (traps & first_byte);
}

// What changes between two steps, word by word.
bool GuardedPoke::collect(std::span<const Replacement> batch, int from, int to) noexcept {
    const std::size_t word_bytes = arch::capabilities().word_bytes;
    pokes_.clear();
    for (const Replacement& each : batch) {
        const std::uint64_t old_value = value(each, from), new_value = value(each, to);
        std::uint64_t left = old_value ^ new_value;
        while (left != 0) {
            const auto k = static_cast<std::size_t>(std::countr_zero(left)) / 8;
            const Address at = each.at + static_cast<std::ptrdiff_t>(k);
            const std::size_t size = std::min(each.size - k, word_bytes - at.value % word_bytes);
            const std::uint64_t bytes = ~std::uint64_t{0} >> (64 - 8 * size);
            left &= ~(bytes << (8 * k));
            if (!pokes_.push_back({.at = at,
                                   .expected = (old_value >> (8 * k)) & bytes,
                                   .replacement = (new_value >> (8 * k)) & bytes,
                                   .element = each.element,
                                   .size = static_cast<std::uint8_t>(size)}))
                return false;
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
