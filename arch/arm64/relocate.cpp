// SPDX-License-Identifier: MIT
// Copies of an arm64 instruction that runs elsewhere. A jump is one instruction long, so one is all that is ever displaced.
//
//     original                    copy
//     b target                    b target
//     bl target                   mov x30, return (movz, movk ...); b target
//     bl target, far              mov x30, return; mov x16, target; ret x16
//     blr xn, blraa ...           mov x30, return; br xn, braa ...
//     b.cond, cbz, tbz target     the same to +8; b +8; b target
//     adr, adrp xd                mov xd, address
//     ldr xt, literal             mov xt, address; ldr xt, [xt]
//     ldr vt, prfm, ldr xzr       the same, with the distance from the copy
//     the same, far               str x16, [sp, #-16]!; mov x16, address; ldr vt, [x16]; ldr x16, [sp], #16
//
// x16 and x17 may hold something inside of a function, but not at a call: a linker's veneer may change them there. There ret
// takes the place of br: on a guarded page (BTI) br may come to landing pads alone, and a function that is only called directly
// has none; ret comes to everything. It costs a wrong prediction of this return and the next, where no room for the copy is
// near the target.
//
// Below the stack pointer nothing is anybody's, there is no red zone. A signal finds x16 on the stack, which Relocated::lowered
// and raised tell the unwinder.
#include "arm64/pc_relative.hpp"

#include <algorithm>

#include "probe_stub.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::uint32_t link_bit = 1u << 21;
constexpr std::uint32_t x16 = 16, x30 = 30, xzr = 31;
constexpr std::uint32_t ret_x16 = (ret & ~(31u << 5)) | x16 << 5;
constexpr std::uint32_t push_x16 = 0xf81f'0ff0, pop_x16 = 0xf841'07f0;

constexpr bool is(std::uint32_t word, std::uint32_t mask, std::uint32_t value) noexcept { return (word & mask) == value; }
// blr, blraaz, blrabz; blraa, blrab.
constexpr bool is_blr(std::uint32_t word) noexcept {
    return is(word, 0xffff'fc1f, 0xd63f'0000) || is(word, 0xffff'f81f, 0xd63f'081f) || is(word, 0xffff'f800, 0xd73f'0800);
}
// br and ret with their authenticating forms, eret, drps; b; and udf.
constexpr bool never_goes_on(std::uint32_t word) noexcept {
    const bool is_return_or_br = is(word, 0xfe00'0000, 0xd600'0000) && !is_blr(word);
    return pc_relative_form(word).form == Form::branch || is_return_or_br || word <= 0xffff;
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
        return Relocated{
            .size = static_cast<std::uint16_t>(*size), .begins = {}, .back = 0, .lowered = lowered_, .raised = raised_};
    }

private:
    void put_address(std::uint32_t reg, Address value) noexcept { put_constant(code_, reg, value.value); }
    void put_call(Address to) noexcept;
    Result<void> put_conditional(std::uint32_t word, const PcRelative& form, Address to) noexcept;
    void put_load(std::uint32_t word, Address operand) noexcept;
    std::unexpected<Error> refuse(Errc code, Address at) const noexcept {
        return std::unexpected(Error{.code = code, .address = at});
    }

    Address at_;
    CodeWriter code_;
    std::uint16_t lowered_ = 0, raised_ = 0;
};

Result<void> Copy::put(std::uint32_t word) noexcept {
    const std::uint32_t rd = word & 31;
    const PcRelative form = pc_relative_form(word);
    const Address operand = refers_to(form, word, at_);
    switch (form.form) {
        case Form::branch:
            return put_jump(operand);
        case Form::call:
            put_call(operand);
            return {};
        case Form::conditional:
            return put_conditional(word, form, operand);
        case Form::address:
        case Form::page:
            if (rd == xzr)
                code_.put(nop);
            else
                put_address(rd, operand);
            return {};
        case Form::load:
            put_load(word, operand);
            return {};
        case Form::pinned:
            return refuse(Errc::not_movable, at_);
        case Form::same:
            break;
    }
    if (is_blr(word)) {
        const bool has_modifier = is(word, 0xffff'f800, 0xd73f'0800);
        if ((word >> 5 & 31) == x30 || (has_modifier && rd == x30)) return refuse(Errc::not_movable, at_);
        put_address(x30, at_ + word_bytes);
        word &= ~link_bit;
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

void Copy::put_call(Address to) noexcept {
    put_address(x30, at_ + word_bytes);
    if (put_jump(to)) return;
    put_address(x16, to);
    code_.put(ret_x16);
}

Result<void> Copy::put_conditional(std::uint32_t word, const PcRelative& form, Address to) noexcept {
    const std::uint32_t field = ((1u << form.bits) - 1) << form.low;
    constexpr std::uint32_t two_words = 2;
    code_.put((word & ~field) | two_words << form.low);
    code_.put(b | two_words);
    return put_jump(to);
}

void Copy::put_load(std::uint32_t word, Address operand) noexcept {
    constexpr std::uint32_t vector_bit = 1u << 26, field = 0x7'ffff << 5;
    // By bits 31:30, of [x0]: ldr w, ldr x, ldrsw, prfm; ldr s, ldr d, ldr q.
    constexpr std::uint32_t loads[] = {0xb940'0000, 0xf940'0000, 0xb980'0000, 0xf980'0000};
    constexpr std::uint32_t vector_loads[] = {0xbd40'0000, 0xfd40'0000, 0x3dc0'0000};
    const std::uint32_t kind = word >> 30, rt = word & 31;
    const bool is_vector = (word & vector_bit) != 0, is_prefetch = !is_vector && kind == 3;
    const auto put_through = [&](std::uint32_t reg) {
        put_address(reg, operand);
        code_.put((is_vector ? vector_loads[kind] : loads[kind]) | reg << 5 | rt);
    };
    if (!is_vector && !is_prefetch && rt != xzr) return put_through(rt);

    const std::ptrdiff_t distance = operand - code_.here();
    constexpr std::ptrdiff_t reach = std::ptrdiff_t{1} << 20;
    if (distance % word_bytes == 0 && -reach <= distance && distance < reach) {
        const auto words = static_cast<std::uint32_t>(distance / word_bytes);
        return code_.put((word & ~field) | (words << 5 & field));
    }
    code_.put(push_x16);
    lowered_ = static_cast<std::uint16_t>(code_.size());
    put_through(x16);
    code_.put(pop_x16);
    raised_ = static_cast<std::uint16_t>(code_.size());
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
    displaced.calls = pc_relative_form(word).form == Form::call || is_blr(word) ? 1 : 0;
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

// b target; brk ...; or where that does not reach:
// ldr x16, 8; br x16; .quad target
std::array<std::byte, jump_anywhere_bytes> encode_jump_anywhere(Address runs_at, Address target) noexcept {
    std::array<std::byte, jump_anywhere_bytes> bytes;
    CodeWriter code(bytes, runs_at);
    if (const auto direct = encode_site(SiteKind::branch, runs_at, target)) {
        code.put(direct->span());
        code.align(trap);
        return bytes;
    }
    code.put(load_ahead(x16, 8));
    code.put(br_x16);
    code.put(std::uint64_t{target.value});
    return bytes;
}

}  // namespace dynfunc::arch::arm64
