// SPDX-License-Identifier: MIT
// Direct branches with a 32-bit distance, found by where they would lead.
//
//     e8 rel32       call
//     e9 rel32       jmp
//     0f 8x rel32    jcc
//
// rel32 is signed and counts from its own end, which is the end of the instruction.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "arch.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr std::size_t field_bytes = 4;
constexpr std::size_t block = 64;

// Compilers make one vector instruction of each operation; two on a machine with narrower ones.
using Lanes = std::uint32_t __attribute__((vector_size(16)));
using Flags = std::int32_t __attribute__((vector_size(16)));
constexpr std::size_t lane_bytes = sizeof(Lanes);
constexpr std::uint32_t sign = 0x8000'0000;

std::uint32_t load(Address at) noexcept {
    std::uint32_t value;
    std::memcpy(&value, at.as<const void*>(), sizeof value);
    return value;
}

// How many blocks from `at` on hold no field that leads into the window. `offset` + the field's value + its
// distance from `at` is less than `size` (modulo 2^32) if it does; fields start at every byte.
std::size_t blocks_without(Address at, std::size_t blocks, std::uint32_t offset, std::uint32_t size) noexcept {
    const Lanes ramp = {0, field_bytes, 2 * field_bytes, 3 * field_bytes};
    const Flags limit = reinterpret_cast<Flags>(Lanes{} + (size ^ sign));  // signed comparison is what the machine has
    const auto* bytes = at.as<const std::byte*>();
    for (std::size_t i = 0; i < blocks; ++i) {
        Flags found{};
        for (std::size_t from = 0; from < block; from += lane_bytes) {
            for (std::size_t shift = 0; shift < field_bytes; ++shift) {
                const auto place = static_cast<std::uint32_t>(i * block + from + shift);
                Lanes value;
                std::memcpy(&value, bytes + i * block + from + shift, lane_bytes);
                value += ramp + (offset + place);
                found |= reinterpret_cast<Flags>(value ^ sign) < limit;
            }
        }
        if ((found[0] | found[1] | found[2] | found[3]) != 0) return i;
    }
    return blocks;
}

}  // namespace

Address find_reference(AddressRange text, Address from, AddressRange window) noexcept {
    constexpr std::size_t reads_beyond = field_bytes - 1;
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    // Of a window this large, and of text this far from it, the low 32 bits do not tell.
    const auto size = static_cast<std::uint32_t>(std::min(window.size(), most));
    for (Address at = std::max(from, text.begin); at + field_bytes <= text.end;) {
        const auto room = static_cast<std::size_t>(text.end - at);
        const std::size_t blocks = room > reads_beyond ? (room - reads_beyond) / block : 0;
        const auto offset = static_cast<std::uint32_t>(at.value + field_bytes - window.begin.value);
        at = at + static_cast<std::ptrdiff_t>(blocks_without(at, blocks, offset, size) * block);
        for (std::size_t i = 0; i < block && at + field_bytes <= text.end; ++i, at = at + 1)
            if (window.contains(reference_target(at))) return at;
    }
    return {};
}

// The byte before it is e8 or e9, or 8x, which has 0f before it.
Address reference_begin(Address field) noexcept {
    return field - (std::to_integer<unsigned>(*(field - 1).as<const std::byte*>()) >> 4 == 0x8 ? 2 : 1);
}

Address reference_target(Address field) noexcept { return field + field_bytes + static_cast<std::int32_t>(load(field)); }

Result<std::uint32_t> encode_reference(Address field, std::uint32_t, Address target) noexcept {
    const std::int64_t distance = target - (field + field_bytes);
    if (!std::in_range<std::int32_t>(distance)) return std::unexpected(Error{.code = Errc::out_of_reach, .address = target});
    return static_cast<std::uint32_t>(distance);
}

}  // namespace dynfunc::arch::x86
