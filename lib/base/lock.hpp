// SPDX-License-Identifier: MIT
// The library's locks, all of them, with the order in which a thread may take them.
#pragma once

#include <pthread.h>

#include <cstdint>

namespace dynfunc {

// A thread that holds a lock may take only locks of a higher rank; anything else aborts with a message, in every build.
// No lock is held while code of a user runs, nor around a call into the dynamic linker.
enum class LockRank : std::uint8_t {
    grace_period = 1,    // one synchronize() at a time
    probe_patterns = 2,  // which patterns of functions there are, and the objects that they were applied to
    return_probes = 3,   // which records of calls are whose
    probes = 4,          // which places have a probe, who listens there
    patterns = 5,        // who listens to tracepoints by pattern
    text = 6,            // everything that is registered, every patched byte
};

// What this thread is doing in the library, besides delivering a hit (lib/probe/hit.hpp): a bit for each rank that it holds.
using ThreadWork = std::uint32_t;
inline constexpr ThreadWork prepares_a_call = 0x200;  // its first call of something wrapped: what it needs is being made
extern "C" [[gnu::tls_model("initial-exec"), gnu::visibility("hidden")]] constinit thread_local ThreadWork dynfunc_thread_work;

// Constant-initialised, never destroyed: constructors that run before, and destructors that run after the library's own use it.
class RankedMutex {
public:
    constexpr explicit RankedMutex(LockRank rank) noexcept : rank_(rank) {}

    // While it is held, the thread is not cancelled: half an update would be left, and the lock with it.
    void lock() noexcept;
    bool try_lock() noexcept;
    void unlock() noexcept;
    // In the only thread of a child process: whoever held the lock stayed in the parent. Returns whether somebody did.
    bool reset_in_child() noexcept;
    LockRank rank() const noexcept { return rank_; }
    // Whether this thread holds it: there is one lock of a rank.
    bool is_mine() const noexcept;

private:
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    int cancel_state_ = PTHREAD_CANCEL_ENABLE;  // of the thread that holds it, before it did
    LockRank rank_;
};

}  // namespace dynfunc
