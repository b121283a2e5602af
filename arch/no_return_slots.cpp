// SPDX-License-Identifier: MIT
// A machine, or a build, that tracks no calls.
#include "return_slots.hpp"

namespace dynfunc::arch::DYNFUNC_ARCH {

Address return_slots() noexcept { return {}; }
Address return_landing() noexcept { return {}; }
Address return_entry() noexcept { return {}; }
void encode_slot(std::span<std::byte, slot_bytes>) noexcept {}
SlotFrames encode_slot_frames(Address, std::span<std::byte>) noexcept { return {}; }

}  // namespace dynfunc::arch::DYNFUNC_ARCH
