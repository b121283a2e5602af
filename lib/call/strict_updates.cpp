// SPDX-License-Identifier: MIT
#include <dynfunc/strict_updates.hpp>

#include "arch.hpp"
#include "backend.hpp"
#include "breakpoints.hpp"
#include "registry.hpp"
#include "strict_poke.hpp"

namespace dynfunc {

Result<void> require_strict_updates() noexcept {
    if (backend().writing == nullptr || !arch::steps_over_sites()) return {};
    const Registry::Hold hold(Registry::instance());
    if (auto handled = Breakpoints::handle(); !handled) return handled;
    StrictPoke::require();
    return {};
}

}  // namespace dynfunc
