// SPDX-License-Identifier: MIT
// Indirect calls, compiled twice from one source: as they are, and with retpolines.
#pragma once

#include <cstdint>

#include "callees.hpp"

namespace bench {

struct IndirectLoops {
    void (*pointer)(std::uint64_t n);       // through callee_pointer
    void (*virtual_call)(std::uint64_t n);  // through adder
    // Through one call site, to callees[order[i & mask]].
    void (*rotating)(std::uint64_t n, const std::uint8_t* order, std::uint64_t mask);
};

extern const IndirectLoops plain_loops;
extern const IndirectLoops retpoline_loops;  // null pointers where the compiler makes no retpolines

}  // namespace bench
