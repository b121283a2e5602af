// SPDX-License-Identifier: MIT
// Tells the unwinder of this process, and gdb, about stubs, so that exceptions pass and stacks can be walked.
#pragma once

#include <span>

#include "probe_stub.hpp"

namespace dynfunc {

struct StubFrame {
    const arch::Stub* stub;
    const arch::Displaced* displaced;
    Address runs_at;
};

// For ever. False: no memory. Threads: one at a time. Blocks: on the unwinder's lock.
bool register_frames(std::span<const StubFrame> frames) noexcept;

}  // namespace dynfunc
