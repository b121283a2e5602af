// SPDX-License-Identifier: MIT
// Who listens at which place: attaching and detaching.
#pragma once

#include <dynfunc/probe.hpp>

#include <atomic>
#include <span>
#include <vector>

#include "hit_threads.hpp"
#include "lock.hpp"
#include "places.hpp"
#include "registry.hpp"

namespace dynfunc {

struct detail::Consumer : Retired {
    Place* place = nullptr;
    ProbeOptions options;
    std::uint32_t counter = 0;
    bool is_removed = false;        // atomic
    std::uint64_t hits_before = 0;  // of the counter, when it was given to this one
    std::uint64_t missed_before = 0;
};

class Probes {
public:
    static Probes& instance() noexcept;

    // For whoever takes what he can get: elements that are refused for what stands there are left out of the result.
    struct Tolerance {
        Address loading{};  // the base of a shared object that the dynamic linker is loading, or null
        std::vector<Error> refused{};
    };
    // Threads: no lock is held but that of patterns.
    Result<std::vector<Probe>> attach(std::span<const ProbeRequest> requests, Tolerance* tolerance = nullptr);
    // Not waiting for anybody. Each consumer is retired.
    void detach(std::span<detail::Consumer* const> consumers) noexcept;
    // A handler asked for it.
    void remove(detail::Consumer& consumer) noexcept;
    ProbeInfo info(const detail::Consumer& consumer);
    void keep_in_children(InChildren what);

private:
    class Hold;

    Result<std::vector<Probe>> attach_all(std::span<const ProbeRequest> requests, Tolerance* tolerance);
    Result<void> start() noexcept;
    Result<std::uint32_t> take_counter();
    static void publish(Place& place, ConsumerList* list) noexcept;
    void disarm_abandoned() noexcept;
    static ConsumerList* make_list(std::span<detail::Consumer* const> consumers) noexcept;
    static void adopt(Copied copied) noexcept;
    void drop_all() noexcept;
    static void reclaim_consumer(Retired& item) noexcept;

    RankedMutex lock_{LockRank::probes};
    ForkPart fork_part_{lock_, &adopt};
    bool started_ = false;
    InChildren in_children_ = InChildren::keep;
    bool is_copied_half_way_ = false;  // by a raw clone: what follows here is not to be relied on
    Places places_;
    std::vector<std::uint32_t> free_counters_;
    std::uint32_t counters_ = 0;
    std::atomic<Place*> abandoned_{nullptr};  // places all of whose consumers asked to be removed
};

}  // namespace dynfunc
