// SPDX-License-Identifier: MIT
#include <dynfunc/detail/export.hpp>

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
