// SPDX-License-Identifier: MIT
// Takes a plain function type apart: the function to declare for its trampoline, and what a null target does.
#pragma once

#include <type_traits>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

template <class R>
inline constexpr bool can_be_value_initialised = std::is_void_v<R> ||
                                                 (!std::is_reference_v<R> && std::is_default_constructible_v<R>);

// Primary template: anything that is not a plain function type.
template <class Sig>
struct Signature {
    static constexpr bool is_supported = false, returns_void = false, allows_null = false;
    static_assert(!std::is_same_v<Sig, Sig>,
                  "dynfunc: the signature is a function type such as int(double, const char*); it may be noexcept or end in "
                  "'...', but it is no pointer, no member function and carries no & or const after the parameters");
};

// `call` is declared here and defined by the assembly of the site header; hidden, so that every compiler reaches it by one
// direct call. `null_target` is what a call does while the target is null: nothing, and a value-initialised result.
#define DYNFUNC_DETAIL_SIGNATURE(ELLIPSIS, NOEXCEPT)                                      \
    template <class R, class... A>                                                        \
    struct Signature<R(A... ELLIPSIS) NOEXCEPT> {                                         \
        static constexpr bool is_supported = true;                                        \
        static constexpr bool returns_void = std::is_void_v<R>;                           \
        static constexpr bool allows_null = can_be_value_initialised<R>;                  \
        static R null_target(A... ELLIPSIS) NOEXCEPT requires allows_null { return R(); } \
        template <class Tag>                                                              \
        struct DYNFUNC_HIDDEN Trampoline {                                                \
            DYNFUNC_HIDDEN static R call(A... ELLIPSIS) NOEXCEPT;                         \
        };                                                                                \
    };
#define DYNFUNC_DETAIL_NOTHING
#define DYNFUNC_DETAIL_ELLIPSIS , ...
DYNFUNC_DETAIL_SIGNATURE(DYNFUNC_DETAIL_NOTHING, DYNFUNC_DETAIL_NOTHING)
DYNFUNC_DETAIL_SIGNATURE(DYNFUNC_DETAIL_NOTHING, noexcept)
DYNFUNC_DETAIL_SIGNATURE(DYNFUNC_DETAIL_ELLIPSIS, DYNFUNC_DETAIL_NOTHING)
DYNFUNC_DETAIL_SIGNATURE(DYNFUNC_DETAIL_ELLIPSIS, noexcept)
#undef DYNFUNC_DETAIL_ELLIPSIS
#undef DYNFUNC_DETAIL_NOTHING
#undef DYNFUNC_DETAIL_SIGNATURE

}  // namespace dynfunc::detail
