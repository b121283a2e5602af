// SPDX-License-Identifier: MIT
// A clock that is read without a call, of unknown speed: for handlers, which would measure the functions that they call.
#pragma once

#include <cstdint>

#include <dynfunc/detail/machine.hpp>

namespace dynfunc::arch {

// Of all CPUs the same (x86: where the time stamp counter is constant and synchronised, as since 2008; arm64: the generic
// timer). Neither orders anything, nor touches vector registers.
DYNFUNC_DETAIL_INLINE_NO_VECTORS inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    std::uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return std::uint64_t{high} << 32 | low;
#elif defined(__aarch64__)
    std::uint64_t now;
    asm volatile("mrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    return 0;  // no handlers run
#endif
}

}  // namespace dynfunc::arch
