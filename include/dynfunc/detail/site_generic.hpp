// SPDX-License-Identifier: MIT
// The call site of a machine, or of a build, that patches nothing: load the key's pointer, call it. Defines what every other
// site must mean.
#pragma once

#include <dynfunc/detail/site.hpp>

namespace dynfunc::detail {

template <class Tag, class Sig>
struct DYNFUNC_HIDDEN Site {
    static Sig* call_address() noexcept {
        const auto* key = static_cast<const BasicFunctionKey<void*>*>(key_address<Tag>);
        // (A) pairs with the store of the target in Registry::publish_target: what was written before retarget() is seen by the
        // target.
        return reinterpret_cast<Sig*>(__atomic_load_n(&key->target, __ATOMIC_ACQUIRE));
    }
};

}  // namespace dynfunc::detail
