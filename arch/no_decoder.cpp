// SPDX-License-Identifier: MIT
// A build that cannot read instructions: nothing is confirmed.
#include "arch.hpp"

namespace dynfunc::arch::DYNFUNC_ARCH {

bool has_decoder() noexcept { return false; }

void confirm_references(AddressRange, std::span<Reference> ascending) noexcept {
    for (Reference& reference : ascending) reference.is_branch = reference.behind_trap = false;
}

}  // namespace dynfunc::arch::DYNFUNC_ARCH
