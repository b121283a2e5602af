// SPDX-License-Identifier: MIT
// Bytes that look like call sites and are none, and code by hand. Each symbol planted_... is a place where nothing may be
// found. Included by one file of the program and by one of its library, which have one each.
#pragma once

#include <cstdint>
#include <cstring>

#include "calls.hpp"

namespace planted {

using Step = dynfunc::detail::Signature<int(int)>::Trampoline<sites::step_dynfunc_tag>;

#include <planted_pieces.hpp>  // of the machine

// What stands in all of them.
struct Bytes {
    unsigned char gap[16], constant[8];
    unsigned long operand;
    static Bytes now() {
        Bytes bytes{};
        std::memcpy(bytes.gap, bytes_between_functions(), sizeof bytes.gap);
        std::memcpy(bytes.constant, bytes_in_constants(), sizeof bytes.constant);
        int sum = 0;
        bytes.operand = immediate(0, sum);
        return bytes;
    }
    bool operator==(const Bytes&) const = default;
};

static const Bytes at_start = Bytes::now();

static inline void add_planted_here(Results& results) {
    int sum = 0;
    static_cast<void>(immediate(5, sum));
    results.add(sum);
    results.add(call_without_unwind_table(7));
    results.add(call_by_hand(9));
}

}  // namespace planted
