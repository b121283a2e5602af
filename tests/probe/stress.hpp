// SPDX-License-Identifier: MIT
// What the stress tests of probes have in common.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <dynfunc/probe.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "surroundings.hpp"

namespace dynfunc::test {

// Why the thread sanitizer cannot watch handlers of probes that other threads attach. (It also calls handlers of signals later,
// with SIGTRAP blocked: the kernel ends a process that runs a breakpoint then.)
inline constexpr const char* not_seen =
    "hits are not instrumented: it does not see that a consumer was made before it is called";

inline constexpr bool is_instrumented = thread_sanitizer || address_sanitizer;

// How long `parts` of `all` last, of DYNFUNC_TORTURE_SECONDS.
inline std::chrono::milliseconds share_of_torture(long parts, long all) {
    const char* seconds = std::getenv("DYNFUNC_TORTURE_SECONDS");
    const long whole = seconds != nullptr ? static_cast<long>(1000 * std::atof(seconds)) : 10'000;
    return std::chrono::milliseconds(whole * parts / all);
}

// The first probe that may trap takes SIGTRAP for good. Here it is given back when nothing is probed any more, and nobody is
// on the way out of a trap.
class KeepTraps {
public:
    KeepTraps() { sigaction(SIGTRAP, nullptr, &before_); }
    ~KeepTraps() { sigaction(SIGTRAP, &before_, nullptr); }
    KeepTraps(const KeepTraps&) = delete;

private:
    struct sigaction before_ {};
};

// A consumer that counts for itself, to be compared with what the library counts.
struct Counter {
    std::atomic<std::uint64_t> calls{0}, late{0};
    std::atomic<bool> is_open{true};  // the filter lets hits through
    std::atomic<bool> asks_to_be_disabled{false};
    std::atomic<bool> is_gone{false};  // detach() has returned
    std::uint64_t forgets_every = 0;   // control: a hit that is not counted

    void reset() {
        calls = late = 0;
        is_open = true;
        asks_to_be_disabled = is_gone = false;
    }
    AfterHit count() {
        const std::uint64_t before = calls.fetch_add(1, std::memory_order_relaxed);
        if (forgets_every != 0 && before == forgets_every) calls.fetch_sub(1, std::memory_order_relaxed);
        if (is_gone.load(std::memory_order_relaxed)) late.fetch_add(1, std::memory_order_relaxed);
        return asks_to_be_disabled.load(std::memory_order_relaxed) ? AfterHit::disable : AfterHit::keep;
    }
    ProbeOptions options(AllowBreakpoint breakpoint, int priority = 0) {
        return {.on_hit = [](ProbeHit& hit) { return static_cast<Counter*>(hit.data)->count(); },
                .data = this,
                .filter = [](void* counter) { return static_cast<Counter*>(counter)->is_open.load(std::memory_order_relaxed); },
                .priority = priority,
                .breakpoint = breakpoint};
    }
};

inline std::array<std::byte, 16> code_at(Address at) {
    std::array<std::byte, 16> bytes;
    std::memcpy(bytes.data(), at.as<const void*>(), bytes.size());
    return bytes;
}

// What everybody tries first: `bytes` over running code, in one go.
inline void write_naively(Address at, const void* bytes, std::size_t size) {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0 || pwrite(memory, bytes, size, static_cast<off_t>(at.value)) != static_cast<ssize_t>(size)) std::abort();
    close(memory);
}

inline std::array<std::byte, 5> jump_between(Address from, Address to) {
    std::array<std::byte, 5> bytes{std::byte{0xe9}};
    const auto distance = static_cast<std::int32_t>(to - from - 5);
    std::memcpy(&bytes[1], &distance, sizeof distance);
    return bytes;
}

class SmallRandom {
public:
    explicit SmallRandom(std::uint32_t seed) : state_(seed * 2654435761u | 1) {}
    std::uint32_t operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 17;
        return state_ ^= state_ << 5;
    }
    std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(std::uint64_t{(*this)()} * limit >> 32); }

private:
    std::uint32_t state_;
};

}  // namespace dynfunc::test
