// SPDX-License-Identifier: MIT
// Copies of x86-64 instructions that run elsewhere. Most are the same bytes; what counts from its own address is changed:
//
//     original                       copy
//     op disp32(%rip)                the same, with the distance from the copy
//     call target                    68 imm32 c7 44 24 04 imm32   push return; movl return >> 32, 4(%rsp)    then as jmp
//     call *operand                  the same, then ff /4: jmp *operand (8 bytes further, where it counts from %rsp)
//     jmp target                     e9 rel32                     jmp target
//                                    ff 25 00000000 imm64         jmp *(%rip), where it is out of reach
//     jcc target                     0f 8x rel32                  jcc target
//                                    7y 0e ff 25 ...              the opposite condition over a far jump
//     loop, jrcxz target             e0-e3 02 eb 05 e9 rel32      to a jump, over which it otherwise leads
//     xbegin target                  c7 f8 rel32                  the same, with the distance from the copy
//
// push and mov leave the flags alone, and write where the call would have written.
#include "relocate.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "x86/decoded.hpp"
#include "x86/distance.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr std::uint8_t rsp = 4;  // in ModRM: also "a SIB byte follows"

class Copy {
public:
    Copy(const Displaced& displaced, Address runs_at, std::span<std::byte> room) noexcept
        : displaced_(displaced), runs_at_(runs_at), code_(room, runs_at) {}

    Result<Relocated> make() noexcept;

private:
    Result<void> put(const Decoded& original) noexcept;
    Result<void> put_with_rip_operand(const Decoded& original, std::uint8_t modrm) noexcept;
    Result<void> put_indirect_call(const Decoded& original) noexcept;
    void put_return_address(Address to) noexcept;
    void put_jump(Address to) noexcept;
    void put_conditional_jump(std::uint8_t condition, Address to) noexcept;

    void put(std::initializer_list<std::uint8_t> bytes) noexcept { code_.put(std::as_bytes(std::span(bytes))); }

    // Where a branch of the copy leads that led to `target`; nothing: into the middle of a displaced instruction. Forward
    // branches into the copy are known in the second pass.
    std::optional<Address> destination(Address target) const noexcept {
        const std::ptrdiff_t offset = target - displaced_.at;
        if (offset <= 0 || std::cmp_greater_equal(offset, displaced_.size())) return target;
        for (std::size_t i = 1; i < displaced_.count; ++i)
            if (displaced_.begins[i] == offset) return runs_at_ + relocated_.begins[i];
        return std::nullopt;
    }

    static std::unexpected<Error> refuse(Errc code, Address at) noexcept {
        return std::unexpected(Error{.code = code, .address = at});
    }

    const Displaced& displaced_;
    Address runs_at_;
    CodeWriter code_;
    Relocated relocated_;
};

Result<Relocated> Copy::make() noexcept {
    std::array<std::optional<Decoded>, Displaced::most_instructions> originals;
    for (std::size_t i = 0; i < displaced_.count; ++i) {
        const Address at = displaced_.at + displaced_.begins[i];
        originals[i] = decode(displaced_.instruction(i), at);
        if (!originals[i]) return refuse(Errc::not_an_instruction, at);
    }
    const CodeWriter begin = code_;
    for (int pass = 0; pass < 2; ++pass) {
        code_ = begin;
        for (std::size_t i = 0; i < displaced_.count; ++i) {
            relocated_.begins[i] = static_cast<std::uint16_t>(code_.size());
            if (auto done = put(*originals[i]); !done) return std::unexpected(done.error());
        }
        relocated_.back = static_cast<std::uint16_t>(code_.size());
        if (displaced_.goes_on) put_jump(displaced_.at + static_cast<std::ptrdiff_t>(displaced_.size()));
    }
    const auto size = code_.finish();
    if (!size) return std::unexpected(size.error());
    relocated_.size = static_cast<std::uint16_t>(*size);
    return relocated_;
}

Result<void> Copy::put(const Decoded& original) noexcept {
    // 16-bit branches are read differently by different processors, and distances from %eip wrap at 4 GiB.
    const bool is_branch = original.raw.imm[0].is_relative || original.is_group5(2) || original.is_group5(4);
    if (is_branch && original.has_16_bit_operand()) return refuse(Errc::not_movable, original.at);
    if (original.has_rip_operand() && original.address_width != 64) return refuse(Errc::not_movable, original.at);
    if (original.is_group5(3)) return refuse(Errc::not_movable, original.at);
    if (original.is_group5(2)) return put_indirect_call(original);

    const auto target = original.target();
    if (!target) {
        if (original.has_rip_operand())
            return put_with_rip_operand(original, std::to_integer<std::uint8_t>(original.bytes[original.raw.modrm.offset]));
        code_.put(original.bytes);
        return {};
    }
    const auto to = destination(*target);
    if (!to) return refuse(Errc::not_movable, original.at);
    if (original.is_default(0xe8, 0xe8)) {
        put_return_address(original.end());
        put_jump(*to);
    } else if (original.is_default(0xe9, 0xe9) || original.is_default(0xeb, 0xeb)) {
        put_jump(*to);
    } else if (original.is_default(0x70, 0x7f) || original.is_near_jcc()) {
        put_conditional_jump(original.opcode & 0x0f, *to);
    } else if (original.is_default(0xe0, 0xe3)) {
        // With its prefix for the width of the counter.
        code_.put(original.bytes.first(original.length - std::size_t{1}));
        const std::uint8_t jump_bytes = reaches(code_, *to, 3 + 5) ? 5 : 14;
        put({2, 0xeb, jump_bytes});
        put_jump(*to);
    } else if (original.mnemonic == ZYDIS_MNEMONIC_XBEGIN) {
        if (!reaches(code_, *to, original.length)) return refuse(Errc::out_of_reach, *to);
        code_.put(original.bytes.first(original.length - std::size_t{4}));
        put_distance(code_, *to);
    } else {
        return refuse(Errc::not_movable, original.at);
    }
    return {};
}

// The distance may stand in front of an immediate operand; it counts from the end of the instruction all the same.
Result<void> Copy::put_with_rip_operand(const Decoded& original, std::uint8_t modrm) noexcept {
    const Address operand = original.end() + static_cast<std::ptrdiff_t>(original.raw.disp.value);
    if (!reaches(code_, operand, original.length)) return refuse(Errc::out_of_reach, operand);
    const auto distance = static_cast<std::uint32_t>(operand - (code_.here() + original.length));
    const std::size_t at = original.raw.disp.offset;
    code_.put(original.bytes.first(original.raw.modrm.offset));
    put({modrm});
    code_.put(distance);
    code_.put(original.bytes.subspan(at + sizeof distance));
    return {};
}

Result<void> Copy::put_indirect_call(const Decoded& original) noexcept {
    constexpr std::uint8_t jump = 4 << 3;  // in ModRM
    const auto& modrm = original.raw.modrm;
    const bool extended = original.raw.rex.B != 0;
    const auto byte = static_cast<std::uint8_t>((std::to_integer<unsigned>(original.bytes[modrm.offset]) & 0xc7) | jump);
    if (modrm.mod == 3 && modrm.rm == rsp && !extended) return refuse(Errc::not_movable, original.at);
    put_return_address(original.end());
    if (original.has_rip_operand()) return put_with_rip_operand(original, byte);
    code_.put(original.bytes.first(modrm.offset));
    if (modrm.mod == 3 || modrm.rm != rsp || original.raw.sib.base != rsp || extended) {
        put({byte});
        code_.put(original.bytes.subspan(modrm.offset + std::size_t{1}));
    } else {
        // The stack is 8 bytes deeper now.
        put({static_cast<std::uint8_t>(0x80 | jump | rsp)});
        code_.put(original.bytes.subspan(original.raw.sib.offset, 1));
        code_.put(static_cast<std::uint32_t>(original.raw.disp.value + 8));
    }
    return {};
}

void Copy::put_return_address(Address to) noexcept {
    put({0x68});
    code_.put(static_cast<std::uint32_t>(to.value));
    if (std::in_range<std::int32_t>(static_cast<std::int64_t>(to.value))) return;
    put({0xc7, 0x44, 0x24, 0x04});
    code_.put(static_cast<std::uint32_t>(to.value >> 32));
}

void Copy::put_jump(Address to) noexcept {
    if (const auto direct = encode_site(SiteKind::branch, code_.here(), to)) return code_.put(direct->span());
    put({0xff, 0x25, 0, 0, 0, 0});
    code_.put(std::uint64_t{to.value});
}

void Copy::put_conditional_jump(std::uint8_t condition, Address to) noexcept {
    if (reaches(code_, to, 6)) {
        put({0x0f, static_cast<std::uint8_t>(0x80 | condition)});
        put_distance(code_, to);
    } else {
        put({static_cast<std::uint8_t>(0x70 | (condition ^ 1)), 14});
        put_jump(to);
    }
}

}  // namespace

Result<Displaced> read_displaced(std::span<const std::byte> code, Address at, std::size_t at_least) noexcept {
    Displaced displaced{.at = at};
    while (displaced.size() < std::min<std::size_t>(at_least, 5) && displaced.goes_on) {
        const std::size_t begin = displaced.size();
        const auto decoded = decode(code.subspan(begin), at + static_cast<std::ptrdiff_t>(begin));
        if (!decoded)
            return std::unexpected(Error{.code = Errc::not_an_instruction, .address = at + static_cast<std::ptrdiff_t>(begin)});
        std::ranges::copy(decoded->bytes, displaced.bytes.begin() + static_cast<std::ptrdiff_t>(begin));
        if (decoded->is_call()) displaced.calls |= static_cast<std::uint8_t>(1 << displaced.count);
        displaced.goes_on = decoded->goes_on();
        displaced.begins[++displaced.count] = static_cast<std::uint8_t>(begin + decoded->length);
    }
    return displaced;
}

Result<Relocated> relocate(const Displaced& displaced, Address runs_at, std::span<std::byte> room) noexcept {
    return Copy(displaced, runs_at, room).make();
}

}  // namespace dynfunc::arch::x86
