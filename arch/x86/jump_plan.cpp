// SPDX-License-Identifier: MIT
// Plans for e9 rel32, whose distance counts from its own end.
#include "jump_plan.hpp"

#include <algorithm>
#include <cstring>

#include "x86/decoded.hpp"
#include "x86/quick_length.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr std::size_t jump_bytes = 5, opcode_bytes = 1;
constexpr std::uint32_t breakpoint = 0xcc;

std::unexpected<Error> refuse(Errc code, Address at) noexcept { return std::unexpected(Error{.code = code, .address = at}); }

// Byte k of the site, as a part of the distance.
constexpr std::uint32_t in_distance(std::uint32_t byte, std::size_t k) noexcept { return byte << (8 * (k - opcode_bytes)); }

// The number of so many bytes that ends there.
std::ptrdiff_t distance_before(Address end, std::size_t bytes) noexcept {
    if (bytes == 1) return *(end - 1).as<const std::int8_t*>();
    std::int32_t distance;
    std::memcpy(&distance, (end - static_cast<std::ptrdiff_t>(sizeof distance)).as<const void*>(), sizeof distance);
    return distance;
}

}  // namespace

Result<JumpPlan> plan_jump(JumpForm form, const JumpSite& site) noexcept {
    const auto displaced = read_displaced(site.code, site.at, form == JumpForm::guarded ? jump_bytes : 1);
    if (!displaced) return std::unexpected(displaced.error());
    const std::size_t size = displaced->size();
    if (form == JumpForm::whole && size < jump_bytes) return refuse(Errc::too_short, site.at);
    // Behind an instruction that never goes on, the function ends, and nobody runs what is overwritten.
    if (form == JumpForm::guarded && size < jump_bytes && (site.code.size() > size || site.free_behind < jump_bytes - size))
        return refuse(Errc::too_short, site.at);

    for (std::size_t k = 1; k < size; ++k)
        if ((site.branches_to >> k & 1) != 0) return refuse(Errc::branch_inside, site.at + static_cast<std::ptrdiff_t>(k));
    JumpPlan plan{
        .form = form, .displaced = *displaced, .written = jump_bytes, .given_mask = 0, .given = 0, .distance_from = jump_bytes};
    for (std::size_t i = 0; i < displaced->count && form == JumpForm::guarded; ++i) {
        const std::size_t end = displaced->begins[i + 1];
        if (end >= jump_bytes) break;
        if ((displaced->calls >> i & 1) != 0) return refuse(Errc::call_inside, site.at + displaced->begins[i]);
        if (i + 1 == displaced->count) break;  // behind it stands nothing that runs
        plan.given_mask |= in_distance(0xff, end);
        plan.given |= in_distance(breakpoint, end);
    }
    if (form == JumpForm::punned) {
        if (site.code.size() < jump_bytes) return refuse(Errc::too_short, site.at);
        plan.written = static_cast<std::uint8_t>(std::min(size, jump_bytes));
        for (std::size_t k = plan.written; k < jump_bytes; ++k) {
            plan.given_mask |= in_distance(0xff, k);
            plan.given |= in_distance(std::to_integer<std::uint32_t>(site.code[k]), k);
        }
    }
    // Whether the instructions can be moved at all; how far is asked where a place is found.
    std::array<std::byte, Relocated::most_bytes> room;
    if (const auto copy = relocate(*displaced, site.at, room); !copy) return std::unexpected(copy.error());
    return plan;
}

void find_branch_targets(AddressRange code, void* context, void (*found)(void*, Address)) {
    for (Address at = code.begin; at < code.end;) {
        const auto* bytes = at.as<const std::byte*>();
        const auto room = static_cast<std::size_t>(code.end - at);
        std::array<std::byte, quick_length_reads> last{};
        if (room < last.size()) {
            std::copy_n(bytes, room, last.begin());
            bytes = last.data();
        }
        if (const QuickLength quick = quick_length(bytes); quick.size != 0 && quick.size <= room) {
            at = at + quick.size;
            if (quick.distance != 0) found(context, at + distance_before(at, quick.distance));
            continue;
        }
        const auto decoded = decode_until(at, code.end);
        if (!decoded) return;
        if (const auto target = decoded->target())
            found(context, *target);
        else if (decoded->is_group5(4))
            found(context, Address{});
        at = decoded->end();
    }
}

Result<void> check_neighbours(std::span<const std::byte>, Address, Address) noexcept { return {}; }

std::size_t padding_bytes(std::span<const std::byte> code) noexcept {
    constexpr std::byte nop{0x90}, int3{0xcc};
    std::size_t size = 0;
    while (size < code.size()) {
        // Most are single bytes, and some functions have a page of them behind.
        if (code[size] == nop || code[size] == int3) {
            ++size;
            continue;
        }
        const auto decoded = decode(code.subspan(size), Address{});
        if (!decoded || decoded->mnemonic != ZYDIS_MNEMONIC_NOP) break;
        size += decoded->length;
    }
    return size;
}

}  // namespace dynfunc::arch::x86
