// SPDX-License-Identifier: MIT
#include "off_slots.hpp"

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>

namespace bench {

struct UsdtSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t) { DTRACE_PROBE1(dynfunc_bench, off, key); }
};

const OffSlot usdt_slot = off_slot<UsdtSlot>();

}  // namespace bench
#else
namespace bench {

const OffSlot usdt_slot = {nullptr, nullptr, "built without <sys/sdt.h> (Debian: systemtap-sdt-dev)"};

}  // namespace bench
#endif
