// SPDX-License-Identifier: MIT
#include <cpuid.h>
#include <dynfunc/detail/export.hpp>

#include <cstring>

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

// AMD fetches aligned blocks of 32 bytes since family 17h (Zen). On family 19h (Zen 3) fields inside such a block were never
// seen torn, those across two of them at once. Zen 1, which stores in halves of a block, and Intel, which fetches 16 or 32
// bytes, were not there to show it.
std::size_t fetch_block_bytes() noexcept {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return capabilities().word_bytes;
    const unsigned name[] = {ebx, edx, ecx};
    if (std::memcmp(name, "AuthenticAMD", sizeof name) != 0) return capabilities().word_bytes;
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    const unsigned family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
    return family >= 0x19 ? 32 : capabilities().word_bytes;
}

ProbeCode probe_code() noexcept {
    return ProbeCode{.run = &dynfunc_probe_run,
                     .site = Address::of(&dynfunc_probe_site),
                     .first = Address::of(&dynfunc_probe_first),
                     .second = Address::of(&dynfunc_probe_second)};
}

}  // namespace dynfunc::arch::x86
