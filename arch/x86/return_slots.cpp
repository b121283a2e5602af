// SPDX-License-Identifier: MIT
#include "return_slots.hpp"

#include <algorithm>
#include <cstring>

#include <dynfunc/detail/export.hpp>

#include "code_writer.hpp"

// return_slots.S
extern "C" {
DYNFUNC_HIDDEN extern const std::byte dynfunc_return_slots[];
DYNFUNC_HIDDEN void dynfunc_return_hit();
DYNFUNC_HIDDEN void dynfunc_return_landing();
DYNFUNC_HIDDEN void dynfunc_return_entry();
// lib/probe/return_unwind.cpp
DYNFUNC_HIDDEN void dynfunc_return_personality();
}

namespace dynfunc::arch::x86 {

Address return_slots() noexcept { return Address::of(&dynfunc_return_slots); }
Address return_landing() noexcept { return Address::of(&dynfunc_return_landing); }
Address return_entry() noexcept { return Address::of(&dynfunc_return_entry); }

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
SlotFrames encode_slot_frames(Address slots, std::span<std::byte> room) noexcept {
    constexpr std::uint8_t common[] = {1,    'z',  'P',  'R', 0,  // version
                                       1,    0x78, 16,            // code and data alignment, return address
                                       10,   0,                   // what follows; personality: an address
                                       0,    0,    0,    0,   0,    0,    0,    0,
                                       0,  // functions: addresses
                                       0x0f, 15,   0x77, 0,   0x80, 0,    0x08, 63,   0x1a, 0x08, 14,   0x2a, 0x0a, 0x20, 0x01,
                                       0x1e, 0x22, 0x10, 16,  9,    0x80, 0,    0x09, 0xc0, 0x1a, 0x23, 0x88, 0x80, 0x10};
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

}  // namespace dynfunc::arch::x86
