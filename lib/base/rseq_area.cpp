// SPDX-License-Identifier: MIT
#include "rseq_area.hpp"

// glibc 2.35 and newer register an area for each thread. Weak: an older one has neither.
extern "C" {
[[gnu::weak]] extern const std::ptrdiff_t __rseq_offset;
[[gnu::weak]] extern const unsigned int __rseq_size;
}

namespace dynfunc::os {

RseqArea rseq_area() noexcept {
    if (&__rseq_size == nullptr) return {0, "the C library registers none (glibc before 2.35?)"};
    if (__rseq_size == 0) return {0, "the C library has registered none (kernel, emulator or the tunable glibc.pthread.rseq)"};
    return {__rseq_offset, nullptr};
}

}  // namespace dynfunc::os
