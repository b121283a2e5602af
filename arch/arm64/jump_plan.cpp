// SPDX-License-Identifier: MIT
// Where a branch can take the place of an arm64 instruction. One is replaced by one: nobody can be inside.
//
//     bytes before    xx xx xx xx         one instruction
//     bytes after     .. .. .. 14..17     b stub; in one store
#include "jump_plan.hpp"

#include <optional>

#include "arm64/pc_relative.hpp"

namespace dynfunc::arch::arm64 {
namespace {

// bti c, j, jc (bti alone is none); paciasp, pacibsp.
constexpr bool is_landing_pad(std::uint32_t word) noexcept {
    return word == 0xd503'245f || word == 0xd503'249f || word == 0xd503'24df || word == 0xd503'233f || word == 0xd503'237f;
}

// What a core's exclusive monitor takes note of: ldxr, ldaxr, ldxp ... begin, stxr, stlxr, stxp ... and clrex end.
enum class Exclusive : std::uint8_t { begins, stores, clears };
constexpr std::optional<Exclusive> exclusive(std::uint32_t word) noexcept {
    if ((word & 0xffff'f0ff) == 0xd503'305f) return Exclusive::clears;
    // Of the pairs, those of less than 32 bits are casp.
    if ((word & 0xbfa0'0000) == 0x0820'0000) return std::nullopt;
    if ((word & 0x3fc0'0000) == 0x0840'0000) return Exclusive::begins;
    if ((word & 0x3fc0'0000) == 0x0800'0000) return Exclusive::stores;
    return std::nullopt;
}

// Whether the nearest one before is a load, and the nearest from there on its store: probes on that store are between them too.
bool is_between_exclusives(std::span<const std::byte> function, std::size_t index) noexcept {
    std::optional<Exclusive> before, behind;
    for (std::size_t i = index; i > 0 && !before; --i) before = exclusive(word_at(function, i - 1));
    if (before != Exclusive::begins) return false;
    for (std::size_t i = index; i < function.size() / word_bytes && !behind; ++i) behind = exclusive(word_at(function, i));
    return behind == Exclusive::stores;
}

}  // namespace

// A landing pad stays one on a guarded page: there an indirect branch may come to bti, paciasp, pacibsp and brk, and to no b;
// so a breakpoint stands there, or nothing.
Result<JumpPlan> plan_jump(JumpForm form, const JumpSite& site) noexcept {
    const auto displaced = read_displaced(site.code, site.at, word_bytes);
    if (!displaced) return std::unexpected(displaced.error());
    if (site.is_guarded && is_landing_pad(word_at(displaced->bytes, 0)))
        return std::unexpected(Error{.code = Errc::landing_pad, .address = site.at});
    std::array<std::byte, Relocated::most_bytes> room;
    if (const auto copy = relocate(*displaced, site.at, room); !copy) return std::unexpected(copy.error());
    return JumpPlan{
        .form = form, .displaced = *displaced, .written = word_bytes, .given_mask = 0, .given = 0, .distance_from = 0};
}

Result<void> check_neighbours(std::span<const std::byte> function, Address begin, Address at) noexcept {
    const std::size_t index = static_cast<std::size_t>(at - begin) / word_bytes;
    if (index > 0 && is_prefix(word_at(function, index - 1)))
        return std::unexpected(Error{.code = Errc::not_movable, .address = at});
    if (is_between_exclusives(function, index)) return std::unexpected(Error{.code = Errc::exclusive_access, .address = at});
    return {};
}

void find_branch_targets(AddressRange code, void* context, void (*found)(void*, Address)) {
    for (Address at = code.begin; at + word_bytes <= code.end; at = at + word_bytes) {
        const std::uint32_t word = word_at(std::span(at.as<const std::byte*>(), word_bytes), 0);
        const PcRelative form = pc_relative_form(word);
        // br, braa and the like: who replaces one word for one does not care where they lead.
        if (form.form == Form::branch || form.form == Form::call || form.form == Form::conditional)
            found(context, refers_to(form, word, at));
    }
}

// Functions begin at multiples of their own size, and one word is enough for a jump: nobody needs more.
std::size_t padding_bytes(std::span<const std::byte>) noexcept { return 0; }

}  // namespace dynfunc::arch::arm64
