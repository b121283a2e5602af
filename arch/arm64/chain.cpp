// SPDX-License-Identifier: MIT
// Chains of arm64 (AAPCS64), words little-endian as all code. Two callees of two integers, the second with data and counted:
//
//     bti c                               a trampoline in slot form jumps here through x16
//     stp x29, x30, [sp, #-16]!
//     mov x29, sp                         the unwind rule holds from here on: CFA = x29 + 16
//     sub sp, sp, #16
//     stp x0, x1, [x29, #-16]
//     bl first
//     ldp x0, x1, [x29, #-16]
//     movz x2, #data; movk x2, #..., lsl #16; ...
//     movz x9, #hits; movk x9, #..., lsl #16; ...
//     ldxr x10, [x9]                      counts without LSE, which is no part of Armv8.0
//     add x10, x10, #1
//     stxr w11, x10, [x9]
//     cbnz w11, -12
//     mov sp, x29
//     ldp x29, x30, [sp], #16
//     b second
//     brk #0 ...                          up to a multiple of 16
//
// The frame, from the top: the integers, the vectors, both in pairs, so that an odd number of them moves one register more, of
// which the callee knows nothing; the stack words of a callee, at sp. They are copied from [x29, #16] on, before every call.
// Pairs lie below x29, stack words above x29 and above sp: every offset is encodable at every size of a frame.
//
// x9 to x17 are free between two callees. An address beyond imm26 is taken into x16, from which a branch may land on `bti c`.
#include "chain.hpp"

#include "arm64/words.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::uint32_t x9 = 9, x16 = 16, x29 = 29, sp = 31;

constexpr std::uint32_t bti_c = 0xd503'245f, brk = 0xd420'0000;
constexpr std::uint32_t push_x29_x30 = 0xa9bf'7bfd, mov_x29_sp = 0x9100'03fd, sub_sp_sp = 0xd100'03ff;
constexpr std::uint32_t mov_sp_x29 = 0x9100'03bf, pop_x29_x30 = 0xa8c1'7bfd;
constexpr std::uint32_t stp_x = 0xa900'0000, ldp_x = 0xa940'0000, stp_q = 0xad00'0000, ldp_q = 0xad40'0000;
constexpr std::uint32_t str_x = 0xf900'0000, ldr_x = 0xf940'0000;
constexpr std::uint32_t ldxr_x10_x9 = 0xc85f'7d2a, add_x10_1 = 0x9100'054a, stxr_w11_x10_x9 = 0xc80b'7d2a,
                        cbnz_w11_back_3 = 0x35ff'ffab;
constexpr std::uint32_t blr_x16 = 0xd63f'0200;

constexpr std::uint32_t pairs(std::uint32_t registers) noexcept { return (registers + 1) / 2; }

class Chain {
public:
    Chain(const ArgumentLayout& layout, std::span<std::byte> room, Address runs_at) noexcept
        : layout_(layout), code_(room, runs_at) {}

    void landing_pad() noexcept { code_.put(bti_c); }
    void enter(std::size_t outgoing_words) noexcept;
    void reload() noexcept { move_registers(ldp_x, ldp_q); }
    void copy_stack_words() noexcept;
    void pass(std::uint64_t data) noexcept;
    void count(Address hits) noexcept;
    void branch(SiteKind kind, Address function) noexcept;
    void leave() noexcept {
        code_.put(mov_sp_x29);
        code_.put(pop_x29_x30);
    }
    void give_back() noexcept { code_.put(ret); }
    void pad() noexcept { code_.align(brk); }
    const CodeWriter& code() const noexcept { return code_; }

private:
    // ldr or str of `reg` at [base, #8 * index].
    void put_word(std::uint32_t opcode, std::uint32_t reg, std::uint32_t base, std::uint32_t index) noexcept {
        code_.put(opcode | index << 10 | base << 5 | reg);
    }
    // ldp or stp of registers 2i and 2i + 1 at `units` of the size of one of them below x29; imm7 is signed.
    void put_pair(std::uint32_t opcode, std::uint32_t i, std::uint32_t units) noexcept {
        code_.put(opcode | (-units & 0x7f) << 15 | (2 * i + 1) << 10 | x29 << 5 | 2 * i);
    }
    void move_registers(std::uint32_t integers, std::uint32_t vectors) noexcept;
    void load(std::uint32_t reg, std::uint64_t value) noexcept { put_constant(code_, reg, value); }

    ArgumentLayout layout_;
    CodeWriter code_;
};

void Chain::enter(std::size_t outgoing_words) noexcept {
    code_.put(push_x29_x30);
    code_.put(mov_x29_sp);
    const std::uint32_t bytes =
        16 * (pairs(layout_.integers) + 2 * pairs(layout_.vectors) + pairs(static_cast<std::uint32_t>(outgoing_words)));
    if (bytes > 0) code_.put(sub_sp_sp | bytes << 10);
    move_registers(stp_x, stp_q);
}

void Chain::move_registers(std::uint32_t integers, std::uint32_t vectors) noexcept {
    const std::uint32_t integer_pairs = pairs(layout_.integers);
    for (std::uint32_t i = 0; i < integer_pairs; ++i) put_pair(integers, i, 2 * (i + 1));
    for (std::uint32_t i = 0; i < pairs(layout_.vectors); ++i) put_pair(vectors, i, integer_pairs + 2 * (i + 1));
}

void Chain::copy_stack_words() noexcept {
    for (std::uint32_t i = 0; i < layout_.stack_words; ++i) {
        put_word(ldr_x, x9, x29, 2 + i);
        put_word(str_x, x9, sp, i);
    }
}

void Chain::pass(std::uint64_t data) noexcept {
    if (layout_.data_in_register) return load(layout_.integers, data);
    load(x9, data);
    put_word(str_x, x9, sp, layout_.stack_words);
}

void Chain::count(Address hits) noexcept {
    load(x9, hits.value);
    for (std::uint32_t instruction : {ldxr_x10_x9, add_x10_1, stxr_w11_x10_x9, cbnz_w11_back_3}) code_.put(instruction);
}

//     bl function        movz x16, #function; movk ...; blr x16
//     b  function        movz x16, #function; movk ...; br x16
void Chain::branch(SiteKind kind, Address function) noexcept {
    if (const auto direct = encode_site(kind, code_.here(), function)) return code_.put(direct->span());
    load(x16, function.value);
    code_.put(kind == SiteKind::call ? blr_x16 : br_x16);
}

}  // namespace

Result<std::size_t> encode_chain(std::span<const ChainCall> calls, const ArgumentLayout& layout, Address runs_at,
                                 std::span<std::byte> room) noexcept {
    Chain chain(layout, room, runs_at);
    write_chain(chain, layout, calls.size(), [&](std::size_t i) -> const ChainCall& { return calls[i]; });
    return chain.code().finish();
}

std::size_t chain_bytes(std::size_t calls, const ArgumentLayout& layout) noexcept {
    const ChainCall longest = longest_call();
    Chain chain(layout, {}, Address{});
    write_chain(chain, layout, calls, [&](std::size_t) -> const ChainCall& { return longest; });
    return chain.code().size();
}

}  // namespace dynfunc::arch::arm64
