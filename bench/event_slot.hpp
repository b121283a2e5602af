// SPDX-License-Identifier: MIT
// Places where an event may be fired, each kind in the same loops. A slot is a type with one function,
//
//     struct EmptySlot { [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes); };
//
// which the loops inline, so that each use is a site of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "callees.hpp"

namespace bench {

using Loop = void (*)(std::uint64_t n);

constexpr std::size_t slots_in_a_row = 16;

// One event, and nothing else in the loop.
template <class Slot>
[[gnu::noinline]] void loop_alone(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) Slot::event(i, n);
}

// One event and one call whose result the next call waits for.
template <class Slot>
[[gnu::noinline]] void loop_beside_call(std::uint64_t n) {
    std::uint64_t i = 0;
    chain(n, [&](int x) {
        Slot::event(i++, n);
        return callee_0(x);
    });
}

// Many events of one kind, nothing else.
template <class Slot>
[[gnu::noinline]] void loop_in_a_row(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) [&]<std::size_t... each>(std::index_sequence<each...>) {
            ((static_cast<void>(each), Slot::event(i, n)), ...);
        }
    (std::make_index_sequence<slots_in_a_row>());
}

}  // namespace bench
