// SPDX-License-Identifier: MIT
// Chains of x86-64 (System V). Two callees of two integers, the second with data and counted:
//
//     f3 0f 1e fa             endbr64                  a trampoline in slot form jumps here indirectly
//     55                      push %rbp
//     48 89 e5                mov %rsp,%rbp            the unwind rule holds from here on: CFA = %rbp + 16
//     57                      push %rdi                -8(%rbp)
//     56                      push %rsi                -16(%rbp)
//     e8 rel32                call first
//     48 8b 7d f8             mov -8(%rbp),%rdi
//     48 8b 75 f0             mov -16(%rbp),%rsi
//     ba imm32                mov $data,%edx
//     f0 48 ff 05 disp32      lock incq hits(%rip)
//     c9                      leave
//     e9 rel32                jmp second
//     cc ...                  up to a multiple of 16
//
// The frame, from the top: the integers; the vectors, 16 bytes each, on a multiple of 16; the stack words of a callee, at %rsp,
// which is a multiple of 16 at every call. They are copied from 16(%rbp) on, before every call.
//
// The flags, %rax, %r10 and %r11 are free between two callees. An address beyond rel32 is taken into %r11 first.
#include "chain.hpp"

#include <initializer_list>
#include <utility>

#include "x86/distance.hpp"

namespace dynfunc::arch::x86 {
namespace {

constexpr std::uint8_t rax = 0, rcx = 1, rdx = 2, rsp = 4, rbp = 5, rsi = 6, rdi = 7, r8 = 8, r9 = 9, r11 = 11;
constexpr std::array argument_registers{rdi, rsi, rdx, rcx, r8, r9};

constexpr std::int32_t word = 8, vector = 16;

constexpr std::int32_t aligned(std::int32_t bytes) noexcept { return (bytes + 15) / 16 * 16; }

// The prefix of an instruction on 64-bit registers: `reg` and `base` are those of its ModRM byte.
constexpr std::uint8_t rex_w(std::uint8_t reg, std::uint8_t base) noexcept {
    return static_cast<std::uint8_t>(0x48 | (reg >> 3) << 2 | base >> 3);
}

constexpr std::uint8_t modrm(std::uint8_t mod, std::uint8_t reg, std::uint8_t base) noexcept {
    return static_cast<std::uint8_t>(mod << 6 | (reg & 7) << 3 | (base & 7));
}

class Chain {
public:
    Chain(const ArgumentLayout& layout, std::span<std::byte> room, Address runs_at) noexcept
        : layout_(layout), code_(room, runs_at) {}

    void landing_pad() noexcept { put({0xf3, 0x0f, 0x1e, 0xfa}); }
    void enter(std::size_t outgoing_words) noexcept;
    void reload() noexcept;
    void copy_stack_words() noexcept;
    void pass(std::uint64_t data) noexcept;
    void count(Address hits) noexcept;
    void branch(SiteKind kind, Address function) noexcept;
    void leave() noexcept { put({0xc9}); }
    void give_back() noexcept { put({0xc3}); }
    void pad() noexcept { code_.align(std::uint8_t{0xcc}); }
    const CodeWriter& code() const noexcept { return code_; }

private:
    void put(std::initializer_list<std::uint8_t> bytes) noexcept { code_.put(std::as_bytes(std::span(bytes))); }
    void push(std::uint8_t reg) noexcept;
    // ModRM, SIB and displacement for offset(base); `base` is %rbp or %rsp.
    void put_operand(std::uint8_t reg, std::uint8_t base, std::int32_t offset) noexcept;
    void load(std::uint8_t reg, std::uint64_t value) noexcept;
    void move_wide(std::uint8_t reg, std::uint64_t value) noexcept {
        put({rex_w(0, reg), static_cast<std::uint8_t>(0xb8 | (reg & 7))});
        code_.put(value);
    }
    // movups, not movaps: equally fast on an aligned address, and no caller with a crooked stack faults here.
    void move_vectors(std::uint8_t opcode) noexcept {
        for (std::uint8_t i = 0; i < layout_.vectors; ++i) {
            put({0x0f, opcode});
            put_operand(i, rbp, -(aligned(word * layout_.integers) + vector * (i + 1)));
        }
    }

    ArgumentLayout layout_;
    CodeWriter code_;
};

void Chain::put_operand(std::uint8_t reg, std::uint8_t base, std::int32_t offset) noexcept {
    const bool is_short = std::in_range<std::int8_t>(offset);
    const bool is_none = offset == 0 && base != rbp;
    put({modrm(is_none ? 0 : is_short ? 1 : 2, reg, base)});
    if (base == rsp) put({0x24});
    if (is_none) return;
    if (is_short)
        put({static_cast<std::uint8_t>(offset)});
    else
        code_.put(static_cast<std::uint32_t>(offset));
}

void Chain::push(std::uint8_t reg) noexcept {
    if (reg >= r8) put({0x41});
    put({static_cast<std::uint8_t>(0x50 | (reg & 7))});
}

// One word is made room for by a push: measured, `sub` behind a push costs more.
void Chain::enter(std::size_t outgoing_words) noexcept {
    put({0x55, 0x48, 0x89, 0xe5});
    for (std::uint8_t i = 0; i < layout_.integers; ++i) push(argument_registers[i]);
    const std::int32_t pushed = word * layout_.integers;
    const std::int32_t rest =
        aligned(pushed) - pushed + vector * layout_.vectors + aligned(word * static_cast<std::int32_t>(outgoing_words));
    if (rest == word) {
        push(rax);
    } else if (std::in_range<std::int8_t>(rest) && rest > 0) {
        put({0x48, 0x83, 0xec, static_cast<std::uint8_t>(rest)});
    } else if (rest > 0) {
        put({0x48, 0x81, 0xec});
        code_.put(static_cast<std::uint32_t>(rest));
    }
    move_vectors(0x11);
}

void Chain::reload() noexcept {
    for (std::uint8_t i = 0; i < layout_.integers; ++i) {
        put({rex_w(argument_registers[i], rbp), 0x8b});
        put_operand(argument_registers[i], rbp, -word * (i + 1));
    }
    move_vectors(0x10);
}

void Chain::copy_stack_words() noexcept {
    for (std::int32_t i = 0; i < layout_.stack_words; ++i) {
        put({rex_w(rax, rbp), 0x8b});
        put_operand(rax, rbp, 2 * word + word * i);
        put({rex_w(rax, rsp), 0x89});
        put_operand(rax, rsp, word * i);
    }
}

void Chain::pass(std::uint64_t data) noexcept {
    if (layout_.data_in_register) return load(argument_registers[layout_.integers], data);
    load(rax, data);
    put({rex_w(rax, rsp), 0x89});
    put_operand(rax, rsp, word * layout_.stack_words);
}

// The shortest of
//     31 /r               xor %r32,%r32
//     b8+r imm32          mov $value,%r32      zero-extended
//     48 c7 /0 imm32      mov $value,%r64      sign-extended
//     48 8d /r disp32     lea value(%rip),%r64
//     48 b8+r imm64       movabs $value,%r64
void Chain::load(std::uint8_t reg, std::uint64_t value) noexcept {
    constexpr std::int32_t lea_bytes = 7;
    const auto at = Address{static_cast<std::uintptr_t>(value)};
    if (std::in_range<std::uint32_t>(value)) {
        if (value == 0) {
            if (reg >= r8) put({0x45});
            return put({0x31, modrm(3, reg, reg)});
        }
        if (reg >= r8) put({0x41});
        put({static_cast<std::uint8_t>(0xb8 | (reg & 7))});
        code_.put(static_cast<std::uint32_t>(value));
    } else if (std::in_range<std::int32_t>(static_cast<std::int64_t>(value))) {
        put({rex_w(0, reg), 0xc7, modrm(3, 0, reg)});
        code_.put(static_cast<std::uint32_t>(value));
    } else if (at.value == value && reaches(code_, at, lea_bytes)) {
        put({rex_w(reg, 0), 0x8d, modrm(0, reg, rbp)});
        put_distance(code_, at);
    } else {
        move_wide(reg, value);
    }
}

//     f0 48 ff 05 disp32                          lock incq hits(%rip)
//     49 bb imm64 f0 49 ff 03                     movabs $hits,%r11; lock incq (%r11)
void Chain::count(Address hits) noexcept {
    constexpr std::int32_t near_bytes = 8;
    if (reaches(code_, hits, near_bytes)) {
        put({0xf0, rex_w(0, 0), 0xff, modrm(0, 0, rbp)});
        put_distance(code_, hits);
    } else {
        move_wide(r11, hits.value);
        put({0xf0, rex_w(0, r11), 0xff, modrm(0, 0, r11)});
    }
}

//     e8 rel32    call function        49 bb imm64 41 ff d3    movabs $function,%r11; call *%r11
//     e9 rel32    jmp function         49 bb imm64 41 ff e3    movabs $function,%r11; jmp *%r11
void Chain::branch(SiteKind kind, Address function) noexcept {
    if (const auto direct = encode_site(kind, code_.here(), function)) return code_.put(direct->span());
    move_wide(r11, function.value);
    put({0x41, 0xff, modrm(3, kind == SiteKind::call ? 2 : 4, r11)});
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

}  // namespace dynfunc::arch::x86
