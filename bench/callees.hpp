// SPDX-License-Identifier: MIT
// What the benches call: eight functions of the shape "lea; ret", each on its own cache line, defined where no caller sees
// into them; and the loop from which they are called.
#pragma once

#include <array>
#include <cstdint>

namespace bench {

using Callee = int(int);

int callee_0(int);
extern const std::array<Callee*, 8> callees;  // callee_0 first

struct Adder {
    virtual ~Adder() = default;
    virtual int add(int) = 0;
};

// The variables through which the indirect calls go. Loops read them anew for each call.
extern Callee* callee_pointer;
extern Adder* adder;

// n calls, each waiting for the result of the one before, as a caller that uses the result would.
template <class Call>
[[gnu::always_inline]] inline void chain(std::uint64_t n, Call call) {
    int x = 0;
    for (std::uint64_t i = 0; i < n; ++i) x = call(x);
    asm volatile("" ::"r"(x));
}

}  // namespace bench
