// SPDX-License-Identifier: MIT
#include <dynfunc/detail/export.hpp>

#include <sys/auxv.h>
#include <ucontext.h>

#include "arch.hpp"

// probe.S
extern "C" {
DYNFUNC_HIDDEN int dynfunc_probe_run();
DYNFUNC_HIDDEN int dynfunc_probe_first();
DYNFUNC_HIDDEN int dynfunc_probe_second();
}

namespace dynfunc::arch::arm64 {

// Instruction fetch does not see stores by itself. For every cache line of the range, in this order:
//     dc cvau    cleans the data cache to where data and instructions meet
//     dsb ish    ... completed, before
//     ic ivau    drops the line from the instruction caches of all cores
//     dsb ish    ... completed on all of them
//     isb        this core throws away what it has fetched already
// ic goes by the address at which code is fetched, so the range is that of execution and not that of a writable alias; the dc
// works from there too, because data caches behave as physically tagged. The isb of the other cores is the membarrier of the
// layer above. The compiler's builtin knows the line sizes, and the cores that need no dc or no ic.
void flush_text(AddressRange range) noexcept { __builtin___clear_cache(range.begin.as<char*>(), range.end.as<char*>()); }

// A word has 4 bytes, and the kernel's copy moves it at once.
bool fetches_whole_copied_words() noexcept { return true; }

#ifndef HWCAP2_BTI
#define HWCAP2_BTI (1 << 17)
#endif
bool guards_pages() noexcept { return (getauxval(AT_HWCAP2) & HWCAP2_BTI) != 0; }

EntryFrame entry_frame() noexcept {
    return {.stack_pointer = 31, .bytes = 0, .return_address = 30, .is_return_on_stack = false};
}

ProbeCode probe_code() noexcept {
    return ProbeCode{.run = &dynfunc_probe_run,
                     .site = Address::of(&dynfunc_probe_run),
                     .first = Address::of(&dynfunc_probe_first),
                     .second = Address::of(&dynfunc_probe_second)};
}

// pc stays at brk.
Address trapped_at(const void* context) noexcept {
    return Address{static_cast<std::uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.pc)};
}

void go_on_at(void* context, Address at) noexcept { static_cast<ucontext_t*>(context)->uc_mcontext.pc = at.value; }

}  // namespace dynfunc::arch::arm64
