// SPDX-License-Identifier: MIT
// A machine, or a build, without restartable sequences: every pop and push goes the pool's other way.
#pragma once

#include <dynfunc/detail/pool_core.hpp>

namespace dynfunc::detail {

struct Restartable {
    static std::byte* thread_pointer() noexcept { return nullptr; }
    static std::int32_t cpu(std::ptrdiff_t) noexcept { return -1; }
    static void set_no_cpu(std::ptrdiff_t) noexcept {}
    static bool pop(const PoolCore&, std::ptrdiff_t, void*&, PoolStack*&) noexcept { return false; }
    static bool push(const PoolCore&, std::ptrdiff_t, void*) noexcept { return false; }
    static bool count(std::ptrdiff_t, unsigned, std::uint64_t&) noexcept { return false; }
};

}  // namespace dynfunc::detail
