// SPDX-License-Identifier: MIT
// How a probe gets control at its place.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/export.hpp>

namespace dynfunc {

// Best first.
enum class SiteClass : std::uint8_t {
    whole,       // a: a jump in the place of one instruction, which is as long
    guarded,     // b: a jump over several instructions; who comes back between them meets a breakpoint
    punned,      // c: a jump over one shorter instruction, whose distance ends in the bytes that follow
    breakpoint,  // d: only a breakpoint, which costs a signal for each hit
    refused,     // not even that: the instruction cannot be read, or run nowhere else
};
inline constexpr std::size_t site_classes = 5;
DYNFUNC_EXPORT const char* to_string(SiteClass) noexcept;

}  // namespace dynfunc
