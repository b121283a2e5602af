// SPDX-License-Identifier: MIT
// Copies of an arm64 instruction that runs elsewhere. A jump is one instruction long, so one is all that is ever displaced.
//
//     original                    copy
//     b target                    b target
//     bl target                   mov x30, return (movz, movk ...); b target
//     blr xn, blraa ...           mov x30, return; br xn, braa ...
//     b.cond, cbz, tbz target     the same to +8; b +8; b target
//     adr, adrp xd                mov xd, address
//     ldr xt, literal             mov xt, address; ldr xt, [xt]
//     ldr of a vector register    the same, with the distance from the copy; there is no register to spare for an address
//     prfm literal                the same, or nop
//
// Nothing else is changed, x16 and x17 neither: inside a function they may hold something.
#include "jump_plan.hpp"

#include <algorithm>

#include "arm64/words.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::uint32_t link_bit = 1u << 21;
constexpr std::uint32_t x30 = 30, xzr = 31;

constexpr bool is(std::uint32_t word, std::uint32_t mask, std::uint32_t value) noexcept { return (word & mask) == value; }
constexpr bool is_b(std::uint32_t word) noexcept { return is(word, 0xfc00'0000, 0x1400'0000); }
constexpr bool is_bl(std::uint32_t word) noexcept { return is(word, 0xfc00'0000, 0x9400'0000); }
constexpr bool is_b_cond(std::uint32_t word) noexcept { return is(word, 0xff00'0000, 0x5400'0000); }
constexpr bool is_compare_and_branch(std::uint32_t word) noexcept { return is(word, 0x7e00'0000, 0x3400'0000); }
constexpr bool is_test_and_branch(std::uint32_t word) noexcept { return is(word, 0x7e00'0000, 0x3600'0000); }
constexpr bool is_adr(std::uint32_t word) noexcept { return is(word, 0x9f00'0000, 0x1000'0000); }
constexpr bool is_adrp(std::uint32_t word) noexcept { return is(word, 0x9f00'0000, 0x9000'0000); }
constexpr bool is_load_literal(std::uint32_t word) noexcept { return is(word, 0x3b00'0000, 0x1800'0000); }
// blr, blraaz, blrabz; blraa, blrab.
constexpr bool is_blr(std::uint32_t word) noexcept {
    return is(word, 0xffff'fc1f, 0xd63f'0000) || is(word, 0xffff'f81f, 0xd63f'081f) || is(word, 0xffff'f800, 0xd73f'0800);
}
// br and ret with their authenticating forms, eret, drps; and udf.
constexpr bool never_goes_on(std::uint32_t word) noexcept {
    const bool is_return_or_br = is(word, 0xfe00'0000, 0xd600'0000) && !is_blr(word);
    return is_b(word) || is_return_or_br || word <= 0xffff;
}

// bti c, j, jc (bti alone is none); paciasp, pacibsp.
constexpr bool is_landing_pad(std::uint32_t word) noexcept {
    return word == 0xd503'245f || word == 0xd503'249f || word == 0xd503'24df || word == 0xd503'233f || word == 0xd503'237f;
}

constexpr std::int64_t signed_field(std::uint32_t word, unsigned low, unsigned bits) noexcept {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(word) << (64 - low - bits)) >> (64 - bits);
}

Address branch_target(Address at, std::uint32_t word, unsigned low, unsigned bits) noexcept {
    return at + static_cast<std::ptrdiff_t>(signed_field(word, low, bits) * word_bytes);
}

class Copy {
public:
    Copy(Address at, Address runs_at, std::span<std::byte> room) noexcept : at_(at), code_(room, runs_at) {}

    Result<void> put(std::uint32_t word) noexcept;
    Result<void> put_jump(Address to) noexcept;
    std::size_t size() const noexcept { return code_.size(); }
    Result<Relocated> finish() const noexcept {
        const auto size = code_.finish();
        if (!size) return std::unexpected(size.error());
        return Relocated{.size = static_cast<std::uint16_t>(*size), .begins = {}, .back = 0};
    }

private:
    void put_address(std::uint32_t reg, std::uint64_t value) noexcept { put_constant(code_, reg, value); }
    Result<void> put_conditional(std::uint32_t word, unsigned bits) noexcept;
    Result<void> put_load(std::uint32_t word) noexcept;
    std::unexpected<Error> refuse(Errc code, Address at) const noexcept {
        return std::unexpected(Error{.code = code, .address = at});
    }
    Address target(std::uint32_t word, unsigned low, unsigned bits) const noexcept {
        return branch_target(at_, word, low, bits);
    }

    Address at_;
    CodeWriter code_;
};

Result<void> Copy::put(std::uint32_t word) noexcept {
    const std::uint32_t rd = word & 31;
    const Address behind = at_ + word_bytes;
    if (is_b(word)) return put_jump(target(word, 0, 26));
    if (is_bl(word)) {
        put_address(x30, behind.value);
        return put_jump(target(word, 0, 26));
    }
    if (is_blr(word)) {
        const bool has_modifier = is(word, 0xffff'f800, 0xd73f'0800);
        if ((word >> 5 & 31) == x30 || (has_modifier && rd == x30)) return refuse(Errc::not_movable, at_);
        put_address(x30, behind.value);
        code_.put(word & ~link_bit);
        return {};
    }
    if (is_b_cond(word) || is_compare_and_branch(word)) return put_conditional(word, 19);
    if (is_test_and_branch(word)) return put_conditional(word, 14);
    if (is_load_literal(word)) return put_load(word);
    if (is_adr(word) || is_adrp(word)) {
        const std::int64_t distance = signed_field(word, 5, 19) * 4 + (word >> 29 & 3);
        const std::uint64_t value = is_adr(word)
                                        ? at_.value + static_cast<std::uint64_t>(distance)
                                        : (at_.value & ~std::uint64_t{0xfff}) + static_cast<std::uint64_t>(distance * 4096);
        if (rd == xzr)
            code_.put(nop);
        else
            put_address(rd, value);
        return {};
    }
    code_.put(word);
    return {};
}

Result<void> Copy::put_jump(Address to) noexcept {
    const auto jump = encode_site(SiteKind::branch, code_.here(), to);
    if (!jump) return refuse(Errc::out_of_reach, to);
    code_.put(jump->span());
    return {};
}

Result<void> Copy::put_conditional(std::uint32_t word, unsigned bits) noexcept {
    const std::uint32_t field = ((1u << bits) - 1) << 5;
    constexpr std::uint32_t two_words = 2;
    code_.put((word & ~field) | two_words << 5);
    code_.put(b | two_words);
    return put_jump(target(word, 5, bits));
}

Result<void> Copy::put_load(std::uint32_t word) noexcept {
    constexpr std::uint32_t vector_bit = 1u << 26, field = 0x7'ffff << 5;
    const std::uint32_t kind = word >> 30, rt = word & 31;
    const Address operand = target(word, 5, 19);
    const bool is_vector = (word & vector_bit) != 0, is_prefetch = !is_vector && kind == 3;
    if (!is_vector && !is_prefetch) {
        if (rt == xzr) return refuse(Errc::not_movable, at_);
        constexpr std::uint32_t loads[] = {0xb940'0000, 0xf940'0000, 0xb980'0000};  // ldr w, ldr x, ldrsw
        put_address(rt, operand.value);
        code_.put(loads[kind] | rt << 5 | rt);
        return {};
    }
    const std::ptrdiff_t distance = operand - code_.here();
    constexpr std::ptrdiff_t reach = std::ptrdiff_t{1} << 20;
    const bool reaches = distance % word_bytes == 0 && -reach <= distance && distance < reach;
    if (!reaches && !is_prefetch) return refuse(Errc::out_of_reach, operand);
    const auto words = static_cast<std::uint32_t>(distance / word_bytes);
    code_.put(reaches ? (word & ~field) | (words << 5 & field) : nop);
    return {};
}

}  // namespace

Result<Displaced> read_displaced(std::span<const std::byte> code, Address at, std::size_t) noexcept {
    if (code.size() < word_bytes || at.value % word_bytes != 0)
        return std::unexpected(Error{.code = Errc::not_an_instruction, .address = at});
    Displaced displaced{.at = at};
    std::ranges::copy(code.first(word_bytes), displaced.bytes.begin());
    displaced.count = 1;
    displaced.begins[1] = word_bytes;
    const std::uint32_t word = word_at(displaced.bytes, 0);
    displaced.calls = is_bl(word) || is_blr(word) ? 1 : 0;
    displaced.goes_on = !never_goes_on(word);
    return displaced;
}

Result<Relocated> relocate(const Displaced& displaced, Address runs_at, std::span<std::byte> room) noexcept {
    Copy copy(displaced.at, runs_at, room);
    if (auto done = copy.put(word_at(displaced.bytes, 0)); !done) return std::unexpected(done.error());
    const auto back = static_cast<std::uint16_t>(copy.size());
    // Behind a call, the callee comes back to the original place by itself.
    if (displaced.goes_on && displaced.calls == 0)
        if (auto done = copy.put_jump(displaced.at + word_bytes); !done) return std::unexpected(done.error());
    auto relocated = copy.finish();
    if (relocated) relocated->back = back;
    return relocated;
}

// One instruction is replaced by one: nobody can be inside. A landing pad stays one: on a guarded page an indirect branch may
// come to bti, paciasp, pacibsp and brk, and to no b; so there a breakpoint stands, or nothing.
Result<JumpPlan> plan_jump(JumpForm form, const JumpSite& site) noexcept {
    const auto displaced = read_displaced(site.code, site.at, word_bytes);
    if (!displaced) return std::unexpected(displaced.error());
    if (is_landing_pad(word_at(displaced->bytes, 0)))
        return std::unexpected(Error{.code = Errc::not_movable, .address = site.at});
    std::array<std::byte, Relocated::most_bytes> room;
    if (const auto copy = relocate(*displaced, site.at, room); !copy) return std::unexpected(copy.error());
    return JumpPlan{
        .form = form, .displaced = *displaced, .written = word_bytes, .given_mask = 0, .given = 0, .distance_from = 0};
}

void find_branch_targets(AddressRange code, void* context, void (*found)(void*, Address)) {
    for (Address at = code.begin; at + word_bytes <= code.end; at = at + word_bytes) {
        const std::uint32_t word = word_at(std::span(at.as<const std::byte*>(), word_bytes), 0);
        if (is_b(word) || is_bl(word)) found(context, branch_target(at, word, 0, 26));
        if (is_b_cond(word) || is_compare_and_branch(word)) found(context, branch_target(at, word, 5, 19));
        if (is_test_and_branch(word)) found(context, branch_target(at, word, 5, 14));
        // br, braa and the like: who replaces one word for one does not care where they lead.
    }
}

// Functions begin at multiples of their own size, and one word is enough for a jump: nobody needs more.
std::size_t padding_bytes(std::span<const std::byte>) noexcept { return 0; }

}  // namespace dynfunc::arch::arm64
