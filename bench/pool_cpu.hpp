// SPDX-License-Identifier: MIT
// The CPU a thread runs on, as cheap as it comes: the contestants with a part for each CPU all ask here.
#pragma once

#include <sched.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define BENCH_HAS_RSEQ 1
#else
#define BENCH_HAS_RSEQ 0
#endif

namespace bench::pool {

// How many there may ever be.
inline std::size_t cpus() {
    static const auto count = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));
    return count;
}

// Below cpus(). A moment later it may be another one: good for choosing where to begin, not for exclusion.
inline std::size_t current_cpu() noexcept {
#if BENCH_HAS_RSEQ
    // The kernel keeps the number up to date in this thread's rseq area; -1 or less where the area is not registered.
    const auto* area = static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset;
    const auto cpu = static_cast<std::int32_t>(
        *static_cast<const volatile std::uint32_t*>(static_cast<const void*>(area + offsetof(struct rseq, cpu_id))));
    if (cpu >= 0) [[likely]]
        return static_cast<std::size_t>(cpu);
#endif
    const int asked = sched_getcpu();
    return asked < 0 ? 0 : static_cast<std::size_t>(asked);
}

// A part for each CPU, by its number: the own one gives, or else the next that does.
template <class Part>
auto pop_nearest(std::vector<Part>& parts) {
    std::size_t cpu = current_cpu();
    for (std::size_t tried = 0; tried < parts.size(); ++tried) {
        if (auto* const object = parts[cpu].pop()) return object;
        cpu = cpu + 1 == parts.size() ? 0 : cpu + 1;
    }
    return decltype(parts[cpu].pop()){};
}

}  // namespace bench::pool
