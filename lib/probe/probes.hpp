// SPDX-License-Identifier: MIT
// Who listens at which place: attaching and detaching.
#pragma once

#include <dynfunc/detail/wrap_core.hpp>
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
    bool is_detached = false;
    bool is_disabled = false;       // atomic
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
    // What they are for: of calls, only what is entered by a call, and does not look at where it was called from.
    enum class Of : std::uint8_t { hits, calls };
    // Threads: no lock is held but that of patterns.
    Result<std::vector<Probe>> attach(std::span<const ProbeRequest> requests, Tolerance* tolerance = nullptr, Of of = Of::hits);
    // Not waiting for anybody. Each consumer is retired.
    void detach(std::span<detail::Consumer* const> consumers) noexcept;
    // Returns whether one was attached.
    bool detach(std::span<Probe> probes) noexcept;
    // Whether this process can have any.
    static Result<void> are_possible() noexcept;
    // All or none.
    Result<void> enable(std::span<const Probe> probes);
    // Not waiting for anybody. Returns whether one is attached.
    bool disable(std::span<const Probe> probes) noexcept;
    static Result<void> set_cache(bool on) noexcept;
    // A handler asked for it.
    void disable_after_hit(detail::Consumer& consumer) noexcept;
    ProbeInfo info(const detail::Consumer& consumer);
    void keep_in_children(InChildren what);

    // Wraps (wrap.cpp). Who fails keeps `core`.
    Result<void> wrap(Address at, const detail::WrapEntry& entry, AllowBreakpoint breakpoint, detail::WrapCore& core);
    void unwrap(detail::WrapCore& core) noexcept;

private:
    class Hold;
    class Idle;

    Result<std::vector<Probe>> attach_all(std::span<const ProbeRequest> requests, Tolerance* tolerance, Of of);
    Result<void> start() noexcept;
    Result<std::uint32_t> take_counter();
    Result<void> wrap_one(Address at, const detail::WrapEntry& entry, AllowBreakpoint breakpoint, detail::WrapCore& core);
    static void leave_wrap(Retired& item) noexcept;
    void see_to_left_wraps() noexcept;
    static void publish(Place& place, ConsumerList* list) noexcept;
    void disarm_abandoned() noexcept;
    template <class Consumers>
    static ConsumerList* make_list(Consumers&& consumers) noexcept;
    static void publish_without_detached(Place& place) noexcept;
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
    detail::WrapCore* left_wraps_ = nullptr;  // detached, with calls in flight
    std::atomic<Place*> abandoned_{nullptr};  // places all of whose consumers asked to be disabled
};

// The probes lock; a fresh child process is made our own first, if that is where we are. Whoever asked to be disabled while
// it was held is seen to at its end.
class Probes::Hold {
public:
    explicit Hold(Probes& probes) noexcept : probes_(probes) {
        Registry::instance().adopt(probes_.fork_part_);
        probes_.lock_.lock();
        probes_.places_.forget_seen();
    }
    ~Hold() {
        probes_.disarm_abandoned();
        probes_.lock_.unlock();
        while (probes_.abandoned_.load(std::memory_order_seq_cst) != nullptr && probes_.lock_.try_lock()) {
            probes_.disarm_abandoned();
            probes_.lock_.unlock();
        }
    }
    Hold(const Hold&) = delete;

private:
    Probes& probes_;
};

}  // namespace dynfunc
