// SPDX-License-Identifier: MIT
// Where the kernel tells a thread which CPU it runs on, without a call.
#pragma once

#include <cstddef>

namespace dynfunc::os {

struct RseqArea {
    std::ptrdiff_t offset;  // from the thread pointer to struct rseq; 0: there is none
    const char* refusal;    // why; null: there is one
};
// Of every thread.  Threads: any.
RseqArea rseq_area() noexcept;

}  // namespace dynfunc::os
