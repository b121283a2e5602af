// SPDX-License-Identifier: MIT
// Tracepoints that nobody listens to: ours, and what stands in its place elsewhere.
#pragma once

#include "event_slot.hpp"

namespace bench {

struct OffSlot {
    Loop beside_call, in_a_row;  // null: left out
    const char* why_not = "";
};

template <class Slot>
constexpr OffSlot off_slot() {
    return {&loop_beside_call<Slot>, &loop_in_a_row<Slot>};
}

extern const OffSlot empty_slot, off_nop, off_flag, off_ret;
extern const OffSlot usdt_slot;   // SystemTap's user-space probe: a nop, and a note in the ELF file
extern const OffSlot lttng_slot;  // LTTng-UST: load, test, branch

}  // namespace bench
