// SPDX-License-Identifier: MIT
// What every machine with slots says of them alike; its own return_slots.cpp says the rest.
#include "return_slots.hpp"

#include <dynfunc/detail/export.hpp>

#include "frame_entry.hpp"

// return_slots.S
extern "C" {
DYNFUNC_HIDDEN extern const std::byte dynfunc_return_slots[];
DYNFUNC_HIDDEN void dynfunc_return_landing();
DYNFUNC_HIDDEN void dynfunc_return_entry();
// lib/probe/return_unwind.cpp
DYNFUNC_HIDDEN void dynfunc_return_personality();
}

namespace dynfunc::arch::DYNFUNC_ARCH {

Address return_slots() noexcept { return Address::of(&dynfunc_return_slots); }
Address return_landing() noexcept { return Address::of(&dynfunc_return_landing); }
Address return_entry() noexcept { return Address::of(&dynfunc_return_entry); }

// What return_slots.S says of the first area.
SlotFrames encode_slot_frames(Address slots, std::span<std::byte> room) noexcept {
    constexpr std::uint8_t minus_8 = 0x78;  // signed LEB128
    constexpr std::uint8_t pointer_absolute = 0x00;
    const SlotRules rules = slot_rules();
    FrameEntry common(room);
    common.put(std::uint32_t{0}, std::uint8_t{1});
    for (const char c : {'z', 'P', 'R', '\0'}) common.put(static_cast<std::uint8_t>(c));
    common.put(std::uint8_t{1}, minus_8, rules.return_column);
    common.put(std::uint8_t{10}, pointer_absolute, std::uint64_t{Address::of(&dynfunc_return_personality).value},
               pointer_absolute);
    for (const std::uint8_t byte : rules.instructions) common.put(byte);
    const std::size_t entry_at = common.finish();
    if (entry_at == 0) return {};

    FrameEntry entry(room.subspan(entry_at));
    entry.put_function(entry_at, slots, slot_to_record);
    const std::size_t entry_bytes = entry.finish(), size = entry_at + entry_bytes + sizeof(std::uint32_t);
    if (entry_bytes == 0 || size > room.size()) return {};
    CodeWriter(room.subspan(entry_at + entry_bytes), Address{}).put(std::uint32_t{0});
    return {size, entry_at};
}

}  // namespace dynfunc::arch::DYNFUNC_ARCH
