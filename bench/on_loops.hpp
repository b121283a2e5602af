// SPDX-License-Identifier: MIT
// Events that 1, 2, 4 or 8 callbacks listen to: our tracepoints, and the same callbacks called in a row.
#pragma once

#include <dynfunc/result.hpp>
#include <dynfunc/tracepoint.hpp>
#include <string>
#include <vector>

#include "event_slot.hpp"

namespace bench {

// A tracepoint of ours with its callbacks attached.
struct OnCase {
    std::string id;
    const char* tracepoint;  // its qualified name
    Loop loop;
    std::vector<dynfunc::Subscription> subscriptions;
};

// on-1 and on-1-section for 1 callback, on-N for the others. Refused: no such case.
dynfunc::Result<std::vector<OnCase>> on_cases(std::size_t callbacks);

// The loop of a slot that calls 1, 2, 4 or 8 callbacks.
template <template <std::size_t> class Slot>
Loop loop_of(std::size_t callbacks) {
    switch (callbacks) {
        case 1:
            return &loop_alone<Slot<1>>;
        case 2:
            return &loop_alone<Slot<2>>;
        case 4:
            return &loop_alone<Slot<4>>;
        default:
            return &loop_alone<Slot<8>>;
    }
}

// Loops that call that many callbacks in a row: directly, through dynamic functions (`jmp callback` each), through
// boost::signals2.
Loop direct_loop(std::size_t callbacks);
Loop trampolines_loop(std::size_t callbacks);
Loop signals2_event_loop(std::size_t callbacks);

}  // namespace bench
