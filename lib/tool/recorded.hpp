// SPDX-License-Identifier: MIT
// The memory that a traced program and the command share: what is in it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "call_tree.hpp"
#include "recording.hpp"
#include "shared_memory.hpp"
#include "trace.hpp"
#include "trace_report.hpp"

namespace dynfunc::tool {

// In ticks since the start.
struct RecordedCall {
    std::size_t function;
    std::uint64_t began, took;
    pid_t process, thread;
    bool has_ended;
};

class Recording {
public:
    explicit Recording(const Trace& trace);

    int file() const noexcept { return memory_.file(); }
    // It has ended. Its threads are gone; what they have counted stays.
    void release(pid_t process);

    // Adds what was counted. `functions`: by their numbers.
    void read(std::span<FunctionResult* const> functions) const;
    CallTree tree() const;
    // By thread, and of each thread as they began. Those that have not ended are in it, up to now or to the end of their
    // process. `lost`: how many are not in it, because later ones have taken their place.
    std::vector<RecordedCall> calls(std::uint64_t start, std::uint64_t& lost) const;

private:
    std::size_t slot_at(std::size_t slot) const noexcept { return trace::header_bytes + slot * header_.slot_bytes(); }
    void read_slot(std::size_t slot, std::span<FunctionResult* const> functions) const;
    void add_ended(std::size_t slot, std::uint64_t start, std::vector<RecordedCall>& calls, std::uint64_t& lost) const;
    void add_open(std::size_t slot, std::uint64_t now, std::vector<RecordedCall>& calls) const;
    template <class Value>
    bool read_at(std::size_t at, Value* values, std::size_t count = 1) const noexcept;

    SharedMemory memory_;
    trace::RecordingHeader& header_;
    std::vector<RecordedCall> left_open_;  // by processes that have ended; since the clock's own start
};

}  // namespace dynfunc::tool
