// SPDX-License-Identifier: MIT
// Changes sites in steps, with a breakpoint in between (dynfunc/strict_updates.hpp).
#pragma once

#include <initializer_list>
#include <span>

#include "guarded_poke.hpp"
#include "scratch.hpp"
#include "text_poke.hpp"

namespace dynfunc {

// Threads: the text lock is held around every call.
class StrictPoke {
public:
    // Of each: the whole word of a trampoline, a branch site, or the distance of a call site. All or none.
    // Errors: of Breakpoints, of GuardedPoke. Then the old bytes stand.
    Result<void> commit(std::initializer_list<std::span<const Poke>> parts) noexcept;

    // From now on all updates of running code are to go this way.
    static void require() noexcept;

    [[nodiscard]] bool reserve(std::size_t places) noexcept { return replacements_.reserve(places); }
    void abandon() noexcept { replacements_.abandon(); }

private:
    Scratch<Replacement> replacements_;
};

}  // namespace dynfunc
