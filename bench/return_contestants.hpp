// SPDX-License-Identifier: MIT
// Who takes part in the bench "return_probes": each arms functions that may be inside each other.
#pragma once

#include <span>

#include "probe_scaling.hpp"

namespace bench::probes {

using Sites = std::span<const Site>;

// Of each contestant, for all that this bench does: four times its threads, as is advised.
std::size_t most_active();

Arming arm_return(Sites);          // ours; a handler at the return, without vector registers
Arming arm_return_entry(Sites);    // and one at the entry
Arming arm_return_vectors(Sites);  // ours; a handler at the return that may touch any register
Arming arm_return_typed(Sites);    // ours; a wrap, of which the callable does nothing but call the original
Arming arm_hijack(Sites);
Arming arm_hijack_pool(Sites);
Arming arm_hijack_freelist(Sites);
Arming arm_kernel_uretprobe(Sites);

// The same for a bench with one function.
template <Arming (*arm)(Sites)>
Arming alone(const Site& site) {
    return arm({&site, 1});
}

}  // namespace bench::probes
