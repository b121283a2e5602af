// SPDX-License-Identifier: MIT
// What the chains of all machines have in common: the steps they are made of, and their order (encode_chain() in arch.hpp).
//
//     one call, no data on the stack      otherwise
//         landing pad                         landing pad
//         data                                enter a frame; save the argument registers
//         hit                                 each: reload the registers (not for the first), stack words, data, hit, call
//         jump                                last: reload the registers, data, hit, leave the frame, jump
//                                             last, with data on the stack: as the others; leave the frame, return
//
// A callee owns its argument registers and its stack arguments, and may have changed them all when it returns. So each gets
// fresh ones; the last, which is reached by a jump, gets the stack arguments that the chain itself was called with. The
// registers are kept in the frame, never in callee-saved ones: an exception that passes finds its way by one rule for every
// chain, and that rule restores no register but the frame pointer.
#pragma once

#include <limits>

#include "arch.hpp"

namespace dynfunc::arch {

// `Machine` writes the steps; `call_at(i)` is call number i of `count`.
template <class Machine, class CallAt>
void write_chain(Machine& to, const ArgumentLayout& layout, std::size_t count, CallAt call_at) noexcept {
    const auto may_jump = [&](const ChainCall& call) { return !call.has_data || layout.data_in_register; };
    const bool ends_in_jump = may_jump(call_at(count - 1));
    const bool framed = count > 1 || !ends_in_jump;

    to.landing_pad();
    if (framed) {
        std::size_t words = layout.stack_words;
        for (std::size_t i = 0; i < count; ++i)
            if (!may_jump(call_at(i))) words = layout.stack_words + std::size_t{1};
        to.enter(words);
    }
    for (std::size_t i = 0; i < count; ++i) {
        const ChainCall& call = call_at(i);
        const bool jump = ends_in_jump && i + 1 == count;
        if (i > 0) to.reload();
        if (!jump) to.copy_stack_words();
        if (call.has_data) to.pass(call.data);
        if (call.hits != nullptr) to.count(Address::of(call.hits));
        if (jump && framed) to.leave();
        to.branch(jump ? SiteKind::tail_call : SiteKind::call, call.function);
    }
    if (!ends_in_jump) {
        to.leave();
        to.give_back();
    }
    to.pad();
}

// No other call takes more bytes: nothing is in reach of anything, and no 16 bits of an address are zero.
inline ChainCall longest_call() noexcept {
    constexpr Address far{std::numeric_limits<std::uintptr_t>::max() / 0xffff * 0x8001};
    return {.function = far, .data = 0x8001'8001'8001'8001, .has_data = true, .hits = far.as<std::uint64_t*>()};
}

}  // namespace dynfunc::arch
