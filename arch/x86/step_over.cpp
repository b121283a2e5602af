// SPDX-License-Identifier: MIT
// What stands at sites, done by a signal handler instead of the processor.
//
//     e8 rel32              call: the return address is pushed
//     e9 rel32              jmp
//     0f 8x rel32           jcc
//     0f 1f 44 00 00        nop
//     c3                    ret
//     ff 25 disp32          jmp *disp32(%rip), through a pointer that may change at this moment
//
// Source: Intel SDM, volume 2 (Jcc: the conditions of x are in pairs, the odd one is the opposite); the kernel's breakpoint
// handler for changing text does the same (arch/x86/kernel/alternative.c).
#include <ucontext.h>

#include <cstring>

#include "arch.hpp"

#define DYNFUNC_HOT [[gnu::section("dynfunc_hot")]]

namespace dynfunc::arch::x86 {
namespace {

constexpr std::size_t short_bytes = 5, long_bytes = 6;

DYNFUNC_HOT bool holds(unsigned condition, greg_t flags) noexcept {
    constexpr unsigned carry = 0, parity = 2, zero = 6, sign = 7, overflow = 11;
    const auto flag = [flags](unsigned bit) { return (flags >> bit & 1) != 0; };
    bool is_true = false;
    switch (condition >> 1) {
        case 0:
            is_true = flag(overflow);
            break;
        case 1:
            is_true = flag(carry);
            break;
        case 2:
            is_true = flag(zero);
            break;
        case 3:
            is_true = flag(carry) || flag(zero);
            break;
        case 4:
            is_true = flag(sign);
            break;
        case 5:
            is_true = flag(parity);
            break;
        case 6:
            is_true = flag(sign) != flag(overflow);
            break;
        default:
            is_true = flag(zero) || flag(sign) != flag(overflow);
            break;
    }
    return is_true != ((condition & 1) != 0);
}

}  // namespace

bool steps_over_sites() noexcept { return true; }

DYNFUNC_HOT bool step_over_site(void* context, std::span<const std::byte> code, Address at) noexcept {
    if (code.size() < long_bytes) return false;
    greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    auto* const stack = reinterpret_cast<std::uintptr_t*>(registers[REG_RSP]);
    const auto byte = [code](std::size_t i) { return std::to_integer<unsigned>(code[i]); };
    // Where it goes on whose distance begins at byte `field`.
    const auto behind = [&](std::size_t field) {
        std::int32_t distance;
        __builtin_memcpy(&distance, code.data() + field, sizeof distance);
        return at + static_cast<std::ptrdiff_t>(field + sizeof distance) + distance;
    };
    Address to;
    if (byte(0) == 0xe9) {
        to = behind(1);
    } else if (byte(0) == 0xe8) {
        to = behind(1);
        stack[-1] = (at + short_bytes).value;
        registers[REG_RSP] -= static_cast<greg_t>(sizeof *stack);
    } else if (byte(0) == 0xc3) {
        to = Address{*stack};
        registers[REG_RSP] += static_cast<greg_t>(sizeof *stack);
    } else if (byte(0) == 0xff && byte(1) == 0x25) {
        to = Address{__atomic_load_n(behind(2).as<const std::uintptr_t*>(), __ATOMIC_ACQUIRE)};
    } else if (byte(0) == 0x0f && byte(1) == 0x1f && byte(2) == 0x44) {
        to = at + short_bytes;
    } else if (byte(0) == 0x0f && byte(1) >> 4 == 0x8) {
        to = holds(byte(1) & 0xf, registers[REG_EFL]) ? behind(2) : at + long_bytes;
    } else {
        return false;
    }
    go_on_at(context, to);
    return true;
}

}  // namespace dynfunc::arch::x86
