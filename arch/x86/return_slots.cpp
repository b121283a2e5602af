// SPDX-License-Identifier: MIT
#include "return_slots.hpp"

#include <algorithm>
#include <cstring>

#include <dynfunc/detail/export.hpp>

// return_slots.S
extern "C" {
DYNFUNC_HIDDEN extern const std::byte dynfunc_return_slots[];
DYNFUNC_HIDDEN void dynfunc_return_hit();
}

namespace dynfunc::arch::x86 {

// As the first one, whose distances within the area are the same; the jump at its end through a pointer behind it.
void encode_slot(std::span<std::byte, slot_bytes> room) noexcept {
    constexpr std::size_t jump_at = 26, pointer_at = slot_bytes - sizeof(std::uint64_t);
    constexpr std::uint8_t jump[] = {0xff, 0x25, pointer_at - jump_at - 6, 0, 0, 0};
    std::ranges::fill(room, std::byte{0xcc});
    std::memcpy(room.data(), dynfunc_return_slots, jump_at);
    std::memcpy(room.data() + jump_at, jump, sizeof jump);
    const std::uint64_t target = Address::of(&dynfunc_return_hit).value;
    std::memcpy(room.data() + pointer_at, &target, sizeof target);
}

// What return_slots.S says of the first area; a slot's own jump is one byte longer, and under the same rules.
SlotRules slot_rules() noexcept {
    static constexpr std::uint8_t instructions[] = {0x0f, 15,   0x77, 0,    0x80, 0,    0x08, 63,   0x1a, 0x08,
                                                    14,   0x2a, 0x0a, 0x20, 0x01, 0x1e, 0x22, 0x10, 16,   9,
                                                    0x80, 0,    0x09, 0xc0, 0x1a, 0x23, 0x88, 0x80, 0x10};
    return {.return_column = 16, .instructions = instructions};
}

}  // namespace dynfunc::arch::x86
