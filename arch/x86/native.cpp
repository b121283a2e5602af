// SPDX-License-Identifier: MIT
#include <dynfunc/detail/export.hpp>

#include <cpuid.h>
#include <ucontext.h>

#include "arch.hpp"

// probe.S
extern "C" {
DYNFUNC_HIDDEN int dynfunc_probe_run();
DYNFUNC_HIDDEN int dynfunc_probe_site();
DYNFUNC_HIDDEN int dynfunc_probe_first();
DYNFUNC_HIDDEN int dynfunc_probe_second();
}

namespace dynfunc::arch::x86 {

// Nothing to do: instruction fetch is coherent with stores, also with stores through another mapping of the same memory. What a
// core has fetched already is not called back; that needs a serialising instruction on every core, which is the membarrier of
// the layer above.
void flush_text(AddressRange) noexcept {}

// Linux has no indirect branch tracking of programs.
bool guards_pages() noexcept { return false; }

// The kernel copies by `rep movsb` where the processor has FSRM (fast short rep mov), and otherwise by moves of 8 bytes. Of a
// `rep movsb` of one aligned word Intel's Ice Lake was seen to fetch half; AMD's Zen 3 and 4 never, in 10^11 calls
// (docs/decisions/0002-aligned-stores.md).
bool fetches_whole_copied_words() noexcept {
    __builtin_cpu_init();
    if (__builtin_cpu_is("amd")) return true;
    unsigned eax, ebx, ecx, edx = 0;
    constexpr unsigned features = 7, fast_short_rep_mov = 1U << 4;
    return __get_cpuid_count(features, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & fast_short_rep_mov) == 0;
}

EntryFrame entry_frame() noexcept { return {.stack_pointer = 7, .bytes = 8, .return_address = 16, .is_return_on_stack = true}; }

ProbeCode probe_code() noexcept {
    return ProbeCode{.run = &dynfunc_probe_run,
                     .site = Address::of(&dynfunc_probe_site),
                     .first = Address::of(&dynfunc_probe_first),
                     .second = Address::of(&dynfunc_probe_second)};
}

// int3 has one byte, and rip stands behind it.
Address trapped_at(const void* context) noexcept {
    return Address{static_cast<std::uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]) - 1};
}

void go_on_at(void* context, Address at) noexcept {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(at.value);
}

}  // namespace dynfunc::arch::x86
