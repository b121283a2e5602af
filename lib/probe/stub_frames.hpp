// SPDX-License-Identifier: MIT
// Tells the unwinder of this process, and gdb, about stubs, so that exceptions pass and stacks can be walked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "probe_stub.hpp"

namespace dynfunc {

struct StubFrame {
    const arch::Stub* stub;  // null: a jump to one (arch::encode_jump_anywhere())
    const arch::Displaced* displaced;
    Address runs_at;

    std::size_t size() const noexcept { return stub != nullptr ? stub->size : arch::jump_anywhere_bytes; }
    std::size_t encode(std::size_t from_begin, std::span<std::byte> room) const noexcept {
        return stub != nullptr ? arch::encode_frame(from_begin, *stub, *displaced, runs_at, room)
                               : arch::encode_jump_frame(from_begin, displaced->at, runs_at, room);
    }
};

// Threads: one at a time.
class StubFrames {
public:
    // For ever. False: no memory. Sorts what it is given.  Blocks: on the unwinder's lock.  Throws: std::bad_alloc.
    bool add(std::span<StubFrame> stubs);

private:
    // What the unwinder was told of a page of near memory, as a section .eh_frame.
    struct Section {
        std::byte* bytes = nullptr;
        std::size_t size = 0;
    };
    void tell_unwinder_of(std::uint64_t page, std::span<const StubFrame> stubs);

    std::map<std::uint64_t, Section> sections_;
    std::vector<std::unique_ptr<std::byte[]>> sections_of_all_times_;  // unwinders may read any
};

// The same of an area of slots (return_slots.hpp), for the unwinder alone.
bool register_slot_frames(Address slots) noexcept;

}  // namespace dynfunc
