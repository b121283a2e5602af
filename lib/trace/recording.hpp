// SPDX-License-Identifier: MIT
// What a traced program writes and `dynfunc trace` reads: a file in memory that both map, so that what was counted outlives
// whatever ends the program.
//
//     one page     RecordingHeader
//     slots        each a thread's own, of any process of the traced tree: a record for every function
//
// The file is as large as all functions of all threads might need, and nearly all of it is a hole: only what was written is
// memory. A slot is taken by one store of its owner and given back with what it has counted; the next thread adds to that.
// Latecomers, when none is free, share the first one, and then count by atomic additions.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dynfunc::trace {

inline constexpr std::size_t most_functions = 1 << 18, slots = 512, shared_slot = 0;

// Durations in ticks, by size: each power of two in so many steps.
struct Histogram {
    static constexpr unsigned steps_bits = 3, steps = 1 << steps_bits, powers = 40;
    static constexpr std::size_t buckets = (powers - steps_bits + 1) * steps;

    // The steps are exact below 2 * steps; further on they are the highest bits.
    static constexpr std::size_t bucket_of(std::uint64_t ticks) noexcept {
        if (ticks < steps) return static_cast<std::size_t>(ticks);
        const unsigned power = 63 - static_cast<unsigned>(__builtin_clzll(ticks));
        if (power >= powers) return buckets - 1;
        return (power - steps_bits + 1) * steps + ((ticks >> (power - steps_bits)) & (steps - 1));
    }
    // The least and the first value beyond.
    static constexpr std::uint64_t begin_of(std::size_t bucket) noexcept {
        if (bucket < steps) return bucket;
        const std::size_t power = bucket / steps + steps_bits - 1;
        return (steps + bucket % steps) << (power - steps_bits);
    }
    static constexpr std::uint64_t end_of(std::size_t bucket) noexcept { return begin_of(bucket + 1); }
};

struct CountRecord {
    std::uint64_t calls;
};
struct TimeRecord {
    std::uint64_t calls, ended, total, most;
    std::uint32_t histogram[Histogram::buckets];
};

enum class What : std::uint32_t { counts, times };

struct RecordingHeader {
    static constexpr std::uint32_t known_version = 1;

    std::uint32_t version;
    What what;
    std::uint32_t with_breakpoints;
    std::uint32_t most_active;  // calls that each object's functions are tracked in at once
    // The process of the thread that has the slot; 0: nobody.
    std::array<std::atomic<std::int32_t>, slots> owner;

    std::size_t record_bytes() const noexcept { return what == What::counts ? sizeof(CountRecord) : sizeof(TimeRecord); }
    std::size_t slot_bytes() const noexcept { return record_bytes() * most_functions; }
};
inline constexpr std::size_t header_bytes = 4096;
static_assert(sizeof(RecordingHeader) <= header_bytes);
static_assert(sizeof(CountRecord) * most_functions % header_bytes == 0 &&
              sizeof(TimeRecord) * most_functions % header_bytes == 0);

// The functions of one object, in a file of its own: written by the tool, verdicts by the traced program.
struct ListedFunction {
    std::uint64_t at;       // as linked
    std::uint32_t number;   // of its record
    std::uint32_t refused;  // an Errc, if `is_refused`
    std::uint32_t is_refused;
    std::uint32_t is_attached;
    std::uint64_t missed;  // hits that were not delivered; written at the end of the program
};
struct FunctionList {
    std::uint32_t count, done;  // atomic: how many are attached or refused
    std::uint64_t untracked;    // calls for which no instance was free

    ListedFunction* functions() noexcept { return reinterpret_cast<ListedFunction*>(this + 1); }
    static constexpr std::size_t bytes(std::size_t count) noexcept {
        return sizeof(FunctionList) + count * sizeof(ListedFunction);
    }
};

// Messages over a sequenced-packet socket; each is answered before the next is sent, but for `attached` and `bye`.
enum class Word : std::uint32_t { hello, settings, object, functions, attached, bye };
struct Message {
    Word word;
    std::uint32_t value;  // hello: the version; settings: the same; functions: how many
    char path[4096];      // object: of its file
};

// The name of the socket (in the abstract namespace) is in this variable.
inline constexpr char socket_variable[] = "DYNFUNC_TRACE_SOCKET";

}  // namespace dynfunc::trace
