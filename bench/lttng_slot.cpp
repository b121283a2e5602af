// SPDX-License-Identifier: MIT
// The site alone, without a provider: LTTng's start-up code finds its small tracepoint library by dlopen, and its threads,
// which would take part in every membarrier that is measured here, are not started.
#include "off_slots.hpp"

#if __has_include(<lttng/tracepoint.h>)
#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_PROBE_DYNAMIC_LINKAGE
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(dynfunc_bench, off, LTTNG_UST_TP_ARGS(std::uint64_t, key), LTTNG_UST_TP_FIELDS())

namespace bench {

struct LttngSlot {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t) {
        lttng_ust_tracepoint(dynfunc_bench, off, key);
    }
};

const OffSlot lttng_slot = off_slot<LttngSlot>();

}  // namespace bench
#else
namespace bench {

const OffSlot lttng_slot = {nullptr, nullptr, "built without <lttng/tracepoint.h> (Debian: liblttng-ust-dev)"};

}  // namespace bench
#endif
