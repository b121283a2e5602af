// SPDX-License-Identifier: MIT
// A machine, or a build, without restartable sequences: every pop and push goes the pool's other way.
#pragma once

#include <dynfunc/detail/pool_core.hpp>

namespace dynfunc::detail {

struct Restartable {
    static std::byte* thread_pointer() noexcept { return nullptr; }
    static bool pop(const PoolCore&, void*&) noexcept { return false; }
    static bool push(const PoolCore&, void*) noexcept { return false; }
    static bool count(const PoolCore&, std::ptrdiff_t, std::size_t) noexcept { return false; }
};

}  // namespace dynfunc::detail
