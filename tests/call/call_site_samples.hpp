// SPDX-License-Identifier: MIT
// Many call sites of one function, at every place that they can have in a cache line.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

namespace dynfunc::test {

// Calls `function` behind `skip` bytes: by a call, or in tail position by a jump.
template <auto& function, std::size_t skip, bool tail>
[[gnu::noinline]] int call_behind(int x) {
#if defined(__x86_64__)
    asm volatile(".skip %c0,0x90" ::"i"(skip));
#endif
    if constexpr (tail) {
        return function(x);
    } else {
        int result = function(x);
        asm volatile("" : "+r"(result));
        return result;
    }
}

// Sites for all 64 distances, each twice.
constexpr std::size_t site_samples = 128;

template <auto& function, std::size_t... i>
constexpr std::array<int (*)(int), site_samples> make_call_sites(std::index_sequence<i...>) {
    return {&call_behind<function, i / 2, i % 2 != 0>...};
}

template <auto& function>
inline constexpr auto call_sites_of = make_call_sites<function>(std::make_index_sequence<site_samples>());

}  // namespace dynfunc::test
