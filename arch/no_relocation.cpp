// SPDX-License-Identifier: MIT
// A machine or a build on which no instruction is moved.
#include "jump_plan.hpp"

namespace dynfunc::arch::DYNFUNC_ARCH {

Result<Displaced> read_displaced(std::span<const std::byte>, Address at, std::size_t) noexcept {
    return std::unexpected(Error{.code = Errc::not_an_instruction, .address = at});
}

Result<Relocated> relocate(const Displaced& displaced, Address, std::span<std::byte>) noexcept {
    return std::unexpected(Error{.code = Errc::not_movable, .address = displaced.at});
}

Result<JumpPlan> plan_jump(JumpForm, const JumpSite& site) noexcept {
    return std::unexpected(Error{.code = Errc::not_an_instruction, .address = site.at});
}

Result<void> check_neighbours(std::span<const std::byte>, Address, Address) noexcept { return {}; }

void find_branch_targets(AddressRange, void*, void (*)(void*, Address)) {}

std::size_t padding_bytes(std::span<const std::byte>) noexcept { return 0; }

}  // namespace dynfunc::arch::DYNFUNC_ARCH
