// SPDX-License-Identifier: MIT
#include "arch.hpp"

namespace dynfunc::arch::arm64 {

// Not needed: the manual lets the instructions of sites be replaced by one another while they run (Arm ARM, B2.2.5).
bool step_over_site(void*, std::span<const std::byte>, Address) noexcept { return false; }
bool steps_over_sites() noexcept { return false; }

}  // namespace dynfunc::arch::arm64
