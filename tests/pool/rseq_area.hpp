// SPDX-License-Identifier: MIT
// The area that the C library has registered with the kernel for the calling thread (struct rseq).
#pragma once

#include <sys/syscall.h>
#include <unistd.h>
#include <dynfunc/detail/machine.hpp>
#include <dynfunc/detail/pool_core.hpp>

#include <cstddef>
#include <cstdint>

#include DYNFUNC_DETAIL_OF_MACHINE(restartable)

extern "C" {
[[gnu::weak]] extern const std::ptrdiff_t __rseq_offset;
[[gnu::weak]] extern const unsigned int __rseq_size;
}

namespace dynfunc::test {

inline std::byte* rseq_area() { return detail::Restartable::thread_pointer() + __rseq_offset; }

// The descriptor of the sequence that the kernel believes this thread to be in; 0: none.
inline volatile std::uint64_t& current_sequence() { return *reinterpret_cast<volatile std::uint64_t*>(rseq_area() + 8); }

// Takes the area away from the kernel: from now on this thread has no sequences. False: the kernel refuses.
inline bool lose_sequences() {
#if defined(__aarch64__)
    constexpr unsigned signature = 0xd428bc00;
#else
    constexpr unsigned signature = 0x53053053;
#endif
    constexpr int unregister = 1;
    // The size that was registered: newer C libraries tell another one.
    for (const unsigned size : {32u, __rseq_size, 64u})
        if (syscall(SYS_rseq, rseq_area(), size, unregister, signature) == 0)
            return *reinterpret_cast<volatile std::int32_t*>(rseq_area() + 4) < 0;
    return false;
}

}  // namespace dynfunc::test
