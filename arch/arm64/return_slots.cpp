// SPDX-License-Identifier: MIT
#include "return_slots.hpp"

#include <algorithm>
#include <cstring>

#include <dynfunc/detail/export.hpp>

#include "arm64/words.hpp"

// return_slots.S
extern "C" {
DYNFUNC_HIDDEN extern const std::byte dynfunc_return_slots[];
DYNFUNC_HIDDEN void dynfunc_return_hit();
}

namespace dynfunc::arch::arm64 {

// As the first one, whose distances within the area are the same; the branch at its end through a pointer behind it:
//     16  ldr x16, 56; br x16
//     56  .quad dynfunc_return_hit
void encode_slot(std::span<std::byte, slot_bytes> room) noexcept {
    constexpr std::size_t branch_at = 16, pointer_at = slot_bytes - sizeof(std::uint64_t);
    std::ranges::fill(room, std::byte{0});  // undefined instructions
    std::memcpy(room.data(), dynfunc_return_slots, branch_at);
    CodeWriter code(room.subspan(branch_at), Address{});
    code.put(load_ahead(16, pointer_at - branch_at));
    code.put(br_x16);
    CodeWriter(room.subspan(pointer_at), Address{}).put(std::uint64_t{Address::of(&dynfunc_return_hit).value});
}

// What return_slots.S says of the first area.
SlotRules slot_rules() noexcept {
    static constexpr std::uint8_t instructions[] = {0x0c, 31,   0,    0x10, 30,   13,   0x8e, 0,    0x40, 0x24,
                                                    0x40, 0x25, 0x09, 0xc0, 0x1a, 0x23, 0x88, 0x80, 0x10};
    return {.return_column = 30, .instructions = instructions};
}

}  // namespace dynfunc::arch::arm64
