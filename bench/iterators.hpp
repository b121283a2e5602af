// SPDX-License-Identifier: MIT
// The way to call several callbacks that needs no generated code: a loop over an array, with an indirect call for each.
// Compiled twice from one source: as it is, and with retpolines.
#pragma once

#include <cstdint>

#include "event_callbacks.hpp"

namespace bench {

struct IteratorLoops {
    using Loop = void (*)(std::uint64_t n, const Listener* const* list);
    Loop bare;  // the walk, and nothing else
    Loop
        guarded;  // what a tracepoint needs that can be switched off and whose callbacks can be freed: flag, read section, walk
};

extern const IteratorLoops plain_iterators;
extern const IteratorLoops retpoline_iterators;  // null pointers where the compiler makes no retpolines
extern std::uint32_t iterator_switch;            // the flag of `guarded`

}  // namespace bench
