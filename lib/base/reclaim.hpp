// SPDX-License-Identifier: MIT
// The library's own side of retire() and synchronize().
#pragma once

#include <dynfunc/grace_period.hpp>

namespace dynfunc {

// Whether this thread has a ReadSection open: it must not wait for a grace period.
bool is_in_section() noexcept;

// Returns when nothing is retired, and no other thread is reclaiming: the code of what was retired may be unloaded. Inside a
// section it does nothing.
// Blocks: as synchronize(), if anything is retired.
void reclaim_retired() noexcept;

// Held by a thread that waits for a grace period and then destroys something itself: reclaim_retired() waits for it.
class Reclaiming {
public:
    Reclaiming() noexcept;
    ~Reclaiming();
    Reclaiming(const Reclaiming&) = delete;

private:
    unsigned turn_;
};

// As retire(), of what the library made for itself: reclaiming it runs no code of a user's but a memory resource.
void retire_own(Retired& item) noexcept;

// Reclaims what was handed to retire_own(), if that can be done without waiting for anybody; inside a section it does nothing.
// Threads: any.  Blocks: never.
void try_reclaim_own() noexcept;

}  // namespace dynfunc
