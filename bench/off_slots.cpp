// SPDX-License-Identifier: MIT
#include "off_slots.hpp"

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/tracepoint.hpp>

#include "event_callbacks.hpp"

namespace bench {

DYNFUNC_TRACEPOINT(off, Callback);
DYNFUNC(off_function, Callback, nullptr);  // its trampoline is patched to a single ret

std::uint32_t off_switch = 0;  // not static: the compiler must not know that it stays 0

struct EmptySlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) {
        asm volatile("" ::"r"(key), "r"(bytes));
    }
};

struct NopSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) { DYNFUNC_TRACE(off, key, bytes); }
};

struct FlagSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) {
        if (__atomic_load_n(&off_switch, __ATOMIC_RELAXED) != 0) [[unlikely]]
            callback<0>(key, bytes);
    }
};

struct RetSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) { off_function(key, bytes); }
};

const OffSlot empty_slot = off_slot<EmptySlot>();
const OffSlot off_nop = off_slot<NopSlot>();
const OffSlot off_flag = off_slot<FlagSlot>();
const OffSlot off_ret = off_slot<RetSlot>();

}  // namespace bench
