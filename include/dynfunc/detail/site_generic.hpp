// SPDX-License-Identifier: MIT
// The call site of a machine, or of a build, that patches nothing: load the key's pointer, call it. Defines what every other
// site must mean. Branches load the key and test it (branch.hpp).
#pragma once

#include <dynfunc/detail/site.hpp>

namespace dynfunc::detail {

template <class Place, class Sig>
struct DYNFUNC_HIDDEN Site {
    static Sig* call_address() noexcept {
        const auto* jump = static_cast<const Jump*>(PlaceAddress<Place>::value);
        // (A) pairs with the store of the target in Update::exchange: what was written before retarget() is seen by the
        // target.
        return reinterpret_cast<Sig*>(__atomic_load_n(&jump->target, __ATOMIC_ACQUIRE));
    }
};

}  // namespace dynfunc::detail
