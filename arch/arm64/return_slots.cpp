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
DYNFUNC_HIDDEN void dynfunc_return_landing();
DYNFUNC_HIDDEN void dynfunc_return_entry();
// lib/probe/return_unwind.cpp
DYNFUNC_HIDDEN void dynfunc_return_personality();
}

namespace dynfunc::arch::arm64 {

Address return_slots() noexcept { return Address::of(&dynfunc_return_slots); }
Address return_landing() noexcept { return Address::of(&dynfunc_return_landing); }
Address return_entry() noexcept { return Address::of(&dynfunc_return_entry); }

// As the first one, whose distances within the area are the same; the branch at its end through a pointer behind it:
//     16  ldr x16, 56; br x16
//     56  .quad dynfunc_return_hit
void encode_slot(std::span<std::byte, slot_bytes> room) noexcept {
    constexpr std::size_t branch_at = 16, pointer_at = slot_bytes - sizeof(std::uint64_t);
    constexpr std::uint32_t ldr_x16 = 0x5800'0010, br_x16 = 0xd61f'0200;
    std::ranges::fill(room, std::byte{0});  // undefined instructions
    std::memcpy(room.data(), dynfunc_return_slots, branch_at);
    CodeWriter code(room.subspan(branch_at), Address{});
    code.put(ldr_x16 | static_cast<std::uint32_t>((pointer_at - branch_at) / word_bytes) << 5);
    code.put(br_x16);
    CodeWriter(room.subspan(pointer_at), Address{}).put(std::uint64_t{Address::of(&dynfunc_return_hit).value});
}

// What return_slots.S says of the first area.
SlotFrames encode_slot_frames(Address slots, std::span<std::byte> room) noexcept {
    constexpr std::uint8_t common[] = {1,    'z',  'P',  'R',  0,  // version
                                       1,    0x78, 30,             // code and data alignment, return address
                                       10,   0,                    // what follows; personality: an address
                                       0,    0,    0,    0,    0,    0,    0,    0,
                                       0,  // functions: addresses
                                       0x0c, 31,   0,    0x10, 30,   13,   0x8e, 0,    0x40, 0x24,
                                       0x40, 0x25, 0x09, 0xc0, 0x1a, 0x23, 0x88, 0x80, 0x10};
    constexpr std::size_t personality_at = 10;
    const auto padded = [](std::size_t bytes) { return (bytes + 7) / 8 * 8; };
    constexpr std::size_t ids = 2 * sizeof(std::uint32_t);
    const std::size_t entry = padded(ids + sizeof common);
    const std::size_t entry_size = padded(ids + 2 * sizeof(std::uint64_t) + 1);
    const std::size_t size = entry + entry_size + sizeof(std::uint32_t);
    if (size > room.size()) return {};
    std::ranges::fill(room.first(size), std::byte{0});
    const auto put = [room](std::size_t at, auto value) { std::memcpy(room.data() + at, &value, sizeof value); };
    put(0, static_cast<std::uint32_t>(entry - sizeof(std::uint32_t)));
    std::memcpy(room.data() + ids, common, sizeof common);
    put(ids + personality_at, Address::of(&dynfunc_return_personality).value);
    put(entry, static_cast<std::uint32_t>(entry_size - sizeof(std::uint32_t)));
    put(entry + 4, static_cast<std::uint32_t>(entry + 4));
    put(entry + ids, slots.value);
    put(entry + ids + 8, std::uint64_t{slot_to_record});
    return {size, entry};
}

}  // namespace dynfunc::arch::arm64
