// SPDX-License-Identifier: MIT
// Branch sites: one instruction in the middle of ordinary code that falls through or jumps, by the way its key goes.
//
// As linked it jumps to `test`, a block that the compiler makes of ordinary code: load the key, test it. So a site is right
// from the first instruction of the process on, in whatever order constructors run, and in a process that can never patch. When
// its DSO announces itself the library replaces the instruction, and from then on whenever the key changes.
//
// The assembly tells the compiler where it may go (asm goto), so both sides are compiled as the sides of any `if`. The record
// is linked to the code it describes (section flags "?" and "o"): with less, linkers that collect garbage drop records of code
// that they keep.
#pragma once

#include <dynfunc/detail/site.hpp>

namespace dynfunc::detail {

// (H) pairs with the store in Update::exchange: what was written before the key changed is seen on its new side.
[[gnu::always_inline]] inline bool is_enabled(const BranchKey& key) noexcept {
    return __atomic_load_n(&key.enabled, __ATOMIC_ACQUIRE) != 0;
}

#ifdef DYNFUNC_DETAIL_BRANCH
// A distance from its own field; 0 where the site falls through.
#define DYNFUNC_DETAIL_DISTANCE(to) " .long " to "-.\n"
#define DYNFUNC_DETAIL_BRANCH_SITE(when_disabled, when_enabled) \
    DYNFUNC_DETAIL_BRANCH                                       \
    ".pushsection dynfunc_branches,\"aw?o\",@progbits,.Ldynfunc_site%=\n"           \
    " .p2align 3\n" DYNFUNC_DETAIL_DISTANCE(".Ldynfunc_site%=") when_disabled when_enabled \
    DYNFUNC_DETAIL_DISTANCE("%c0") " .zero %c1\n"                                   \
    ".popsection\n"
#define DYNFUNC_DETAIL_FALLS_THROUGH " .long 0\n"
#define DYNFUNC_DETAIL_BRANCH_INPUTS DYNFUNC_DETAIL_SYMBOL(&KeyWord<Tag>::word), "i"(sizeof(BranchRecord) - 16)

template <class Tag>
[[gnu::always_inline]] inline bool branch_unlikely(const BranchKey& key) noexcept {
    static_cast<void>(&emit_registrar);
    asm goto(DYNFUNC_DETAIL_BRANCH_SITE(DYNFUNC_DETAIL_FALLS_THROUGH,
                                        DYNFUNC_DETAIL_DISTANCE("%l[enabled]"))::DYNFUNC_DETAIL_BRANCH_INPUTS::enabled,
             test);
    return false;
test:
    [[unlikely]] return is_enabled(key);
enabled:
    [[unlikely]] return true;
}

template <class Tag>
[[gnu::always_inline]] inline bool branch_likely(const BranchKey& key) noexcept {
    static_cast<void>(&emit_registrar);
    asm goto(DYNFUNC_DETAIL_BRANCH_SITE(DYNFUNC_DETAIL_DISTANCE("%l[disabled]"),
                                        DYNFUNC_DETAIL_FALLS_THROUGH)::DYNFUNC_DETAIL_BRANCH_INPUTS::disabled,
             test);
    return true;
test:
    [[unlikely]] return is_enabled(key);
disabled:
    [[unlikely]] return false;
}

#undef DYNFUNC_DETAIL_BRANCH_INPUTS
#undef DYNFUNC_DETAIL_FALLS_THROUGH
#undef DYNFUNC_DETAIL_BRANCH_SITE
#undef DYNFUNC_DETAIL_DISTANCE
#undef DYNFUNC_DETAIL_BRANCH
#else
template <class Tag>
[[gnu::always_inline]] inline bool branch_unlikely(const BranchKey& key) noexcept {
    return __builtin_expect(is_enabled(key), 0);
}

template <class Tag>
[[gnu::always_inline]] inline bool branch_likely(const BranchKey& key) noexcept {
    return __builtin_expect(is_enabled(key), 1);
}
#endif

}  // namespace dynfunc::detail
