// SPDX-License-Identifier: MIT
// Replaces bytes of running code that hold several instructions, or lie across two words.
//
//     inside one aligned word     one store, as TextPoke does it
//     across two words            1. a breakpoint at the first byte, and at each inner boundary that reads as one afterwards
//                                 2. the bytes that are no boundary
//                                 3. the boundaries that do not read as a breakpoint afterwards
//                                 4. the first byte
//
// Between the steps every core executes a serialising instruction. Who comes to the first byte meanwhile traps, and goes on
// where Breakpoints says; who stands at an inner boundary finds the old instruction, or traps. The way back is the same steps
// backwards. Steps in which nothing changes are left out.
#pragma once

#include "text_poke.hpp"

namespace dynfunc {

struct Replacement {
    Address at;
    std::uint8_t size = 0;        // 8 at most
    std::uint8_t boundaries = 0;  // bit k: a thread may stand at byte k; never bit 0
    bool is_under_trap = false;   // nobody runs it: one store, whatever is asked for
    std::array<std::byte, 8> before{}, after{};
    std::size_t element = 0;

    // Whether it is done in several steps.
    bool needs_breakpoints() const noexcept;
};

// Threads: the text lock is held around every call.
class GuardedPoke {
public:
    // `always` : several steps also where one store would do (no reliance on stores of aligned words).
    explicit GuardedPoke(TextWriting& writing, bool always = false) noexcept : poke_(writing), always_(always) {}

    // All or none. Every place that needs breakpoints is known to Breakpoints, which handles the signal.
    // Errors: bytes_changed (address = of the first word that differs); of TextPoke. Then the old bytes stand.
    Result<void> commit(std::span<const Replacement> batch) noexcept;

private:
    bool in_steps(const Replacement& each) const noexcept {
        return !each.is_under_trap && (always_ || each.needs_breakpoints());
    }
    std::uint64_t value(const Replacement& each, int steps_done) const noexcept;
    bool collect(std::span<const Replacement> batch, int from, int to) noexcept;

    TextPoke poke_;
    bool always_;
    Scratch<Poke> pokes_;
};

}  // namespace dynfunc
