// SPDX-License-Identifier: MIT
// Return probes: attaching, counting, and letting go of what calls in flight still need.
//
// INV-return: a ReturnCore, its pool and its records stay until it was detached, a grace period is over (nobody begins to track
// a call any more), none of its records is of a call (nobody will come back), and another one is over (whoever came back last
// has given its instance back).
#pragma once

#include <dynfunc/return_probe.hpp>

#include <vector>

#include "lock.hpp"
#include "probes.hpp"
#include "registry.hpp"
#include "return_records.hpp"

namespace dynfunc {

struct detail::ReturnCore : ReturnHandlers, Retired {
    std::vector<ReturnRecord*> records;
    std::vector<Probe> probes;
    void (*destroy_data)(void* data) noexcept = nullptr;
    // The next look for calls that will never end is worth its price only after so many misses.
    std::uint64_t misses_until_look = 0;  // atomic
    bool is_looking = false;              // atomic
    ReturnCore* next_leaving = nullptr;
};

class ReturnProbes {
public:
    static ReturnProbes& instance() noexcept;

    // With `tolerance` as Probes::attach(): without those that are refused, perhaps without any.
    Result<detail::ReturnCore*> attach(std::span<const ProbeTarget> targets, const detail::ReturnPlan& plan,
                                       Probes::Tolerance* tolerance = nullptr);
    static void detach(detail::ReturnCore& core, bool wait) noexcept;
    ReturnCounts counts(const detail::ReturnCore& core) noexcept;
    std::size_t in_flight(const detail::ReturnCore& core) noexcept;
    static void* pop(detail::ReturnCore& core) noexcept;

private:
    static void adopt(Copied copied) noexcept;
    static void leave(Retired& item) noexcept;
    static void destroy(Retired& item) noexcept;
    void see_to_leaving() noexcept;

    RankedMutex lock_{LockRank::return_probes};
    ForkPart fork_part_{lock_, &adopt};
    bool is_copied_half_way_ = false;
    ReturnRecords records_;
    detail::ReturnCore* leaving_ = nullptr;  // detached, with calls in flight
};

}  // namespace dynfunc
