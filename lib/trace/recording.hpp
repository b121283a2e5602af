// SPDX-License-Identifier: MIT
// What a traced program writes and `dynfunc trace` reads: a file in memory that both map, so that what was counted outlives
// whatever ends the program.
//
//     one page     RecordingHeader
//     slots        each a thread's own, of any process of the traced tree:
//         records      a CountRecord or TimeRecord for every function
//         CallTree     which function called which, if that is wanted
//         EventRing    the last calls, one by one, if they are wanted
//
// The file is as large as all functions of all threads might need, and nearly all of it is a hole: only what was written is
// memory. A slot is taken by one store of its owner and given back with what it has counted; the next thread adds to that.
// Latecomers, when none is free, share the first one, and then count by atomic additions; they have no tree and no events.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/machine.hpp>

namespace dynfunc::trace {

inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::size_t most_functions = 1 << 18, slots = 512, shared_slot = 0;

// Durations in ticks, by size: each power of two in so many steps.
struct Histogram {
    static constexpr unsigned steps_bits = 3, steps = 1 << steps_bits, powers = 40;
    static constexpr std::size_t buckets = (powers - steps_bits + 1) * steps;

    // The steps are exact below 2 * steps; further on they are the highest bits.
    DYNFUNC_DETAIL_INLINE_NO_VECTORS static constexpr std::size_t bucket_of(std::uint64_t ticks) noexcept {
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
    std::uint64_t untimed;  // of the calls: from code that no unwind table knows
    std::uint32_t histogram[Histogram::buckets];
};

// ---- Which function called which: a calling-context tree (Ammons, Ball, Larus 1997) ----

// A function where it was called by the same chain of callers. Numbers of other nodes are places in CallTree::nodes.
struct CallNode {
    std::uint32_t function, depth;
    std::uint32_t parent, first_child, next_sibling;  // 0, the root: none
    std::uint32_t unused;
    std::uint64_t calls, ended, total;
};
struct CallTree {
    static constexpr std::size_t most_nodes = 1 << 18, most_depth = 1024, cached = 1024;

    // Of the call that is the deepest at its depth: where it began, and when.
    struct Frame {
        std::uint64_t stack_pointer, return_address, began;
    };

    std::uint32_t nodes_used;  // atomic; without the root, which is not written
    std::uint32_t current;     // atomic: the node that the thread is in
    std::uint64_t unplaced;    // calls for which there was no room
    std::int32_t process, thread;
    Frame frames[most_depth];
    std::uint32_t cache[cached];  // nodes that were found, by parent and function
    CallNode nodes[most_nodes];
};

// ---- Calls one by one ----

struct CallEvent {
    std::uint64_t began, took;  // ticks
    std::uint32_t function;     // its number + 1; 0: it is just being written
    std::int32_t process, thread;
    std::uint32_t unused;
};
struct EventRing {
    std::uint64_t written;  // atomic; event i is the one at i modulo their number

    CallEvent* events() noexcept { return reinterpret_cast<CallEvent*>(this + 1); }
    static constexpr std::size_t bytes(std::size_t events) noexcept { return sizeof(EventRing) + events * sizeof(CallEvent); }
};

struct RecordingSettings {
    static constexpr std::uint32_t known_version = 3;

    std::uint32_t version = known_version;
    std::uint32_t with_times, with_tree;  // the tree needs times
    std::uint32_t most_events;            // of a slot: a power of two; 0: none. They need the tree
    std::uint32_t with_breakpoints;
    std::uint32_t most_active;  // calls that each object's functions are tracked in at once

    static constexpr std::size_t in_pages(std::size_t bytes) noexcept {
        return (bytes + page_bytes - 1) / page_bytes * page_bytes;
    }
    std::size_t record_bytes() const noexcept { return with_times != 0 ? sizeof(TimeRecord) : sizeof(CountRecord); }
    // Within a slot.
    std::size_t tree_at() const noexcept { return in_pages(record_bytes() * most_functions); }
    std::size_t ring_at() const noexcept { return tree_at() + (with_tree != 0 ? in_pages(sizeof(CallTree)) : 0); }
    std::size_t slot_bytes() const noexcept {
        return ring_at() + (most_events != 0 ? in_pages(EventRing::bytes(most_events)) : 0);
    }
};
struct RecordingHeader : RecordingSettings {
    // The process of the thread that has the slot; 0: nobody.
    std::array<std::atomic<std::int32_t>, slots> owner{};
};
inline constexpr std::size_t header_bytes = page_bytes;
static_assert(sizeof(RecordingHeader) <= header_bytes);

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

// Messages over a sequenced-packet socket; each is answered before the next is sent, but for `attached`.
enum class Word : std::uint32_t { hello, settings, object, functions, attached };
struct Message {
    Word word;
    std::uint32_t value;  // hello: the version; settings: the same; functions: how many
    char path[4096];      // object: of its file; hello: the program's name, if the command finds none
};

// The name of the socket (in the abstract namespace) is in this variable.
inline constexpr char socket_variable[] = "DYNFUNC_TRACE_SOCKET";

}  // namespace dynfunc::trace
