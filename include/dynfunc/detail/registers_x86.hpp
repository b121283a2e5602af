// SPDX-License-Identifier: MIT
// Registers of x86-64 (System V calling convention). Stubs and thunks know where each one lies (arch/x86/probe_stub.cpp,
// arch/x86/probe_thunks.S).
#pragma once

#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/machine.hpp>

namespace dynfunc {

struct Registers {
    std::uint64_t rax, rcx, rdx, rbx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t rsp;     // of the thread, where the probe is hit; what lies below it by up to 128 bytes may be in use
    std::uint64_t rflags;  // at a function's begin: without the direction flag, which is clear there
    // Register number i is the first `vector_bytes` bytes at `vectors` + i * vector_bytes: 16, 32 or 64, as wide as the
    // processor has them. Null where no consumer of the probe needs them.
    std::byte* vectors;
    std::uint64_t vector_bytes;
    std::uint64_t rbp;
    std::uint64_t rip;  // changed: the thread goes on there, and not with the instruction under the probe

    // The first six.
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t& integer(unsigned i) noexcept {
        // By arithmetic alone: handlers that leave vector registers alone call it.
        return *reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(this) + integer_at(i));
    }
    // The first eight.
    template <class T = double>
    T& floating(unsigned i) noexcept {
        return *reinterpret_cast<T*>(vectors + i * vector_bytes);
    }
    // The first two words of what a function returns in integer registers.
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t& result(unsigned i = 0) noexcept { return i == 0 ? rax : rdx; }
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t& stack_word(std::size_t i) noexcept {
        return reinterpret_cast<std::uint64_t*>(rsp)[1 + i];
    }
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t& instruction_pointer() noexcept { return rip; }
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t& stack_pointer() noexcept { return rsp; }
    DYNFUNC_DETAIL_INLINE_NO_VECTORS std::uint64_t return_address() const noexcept {
        return *reinterpret_cast<const std::uint64_t*>(rsp);
    }
    DYNFUNC_DETAIL_INLINE_NO_VECTORS void return_now(std::uint64_t value) noexcept {
        rax = value;
        rip = return_address();
        rsp += sizeof rip;
    }

    // For typed_probe.hpp: how many arguments registers carry, and where in here, and on the stack, they are.
    static constexpr unsigned integer_arguments = 6, vector_arguments = 8;
    DYNFUNC_DETAIL_INLINE_NO_VECTORS static constexpr std::size_t integer_at(unsigned i) noexcept {
        switch (i) {
            case 0:
                return offsetof(Registers, rdi);
            case 1:
                return offsetof(Registers, rsi);
            case 2:
                return offsetof(Registers, rdx);
            case 3:
                return offsetof(Registers, rcx);
            case 4:
                return offsetof(Registers, r8);
            default:
                return offsetof(Registers, r9);
        }
    }
    static constexpr std::size_t stack_pointer_at() noexcept { return offsetof(Registers, rsp); }
    static constexpr std::size_t stack_arguments_at = sizeof(std::uint64_t);  // behind the return address
};
static_assert(sizeof(Registers) == 160 && offsetof(Registers, rsp) == 112 && offsetof(Registers, rbp) == 144);

}  // namespace dynfunc
