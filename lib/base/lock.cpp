// SPDX-License-Identifier: MIT
#include "lock.hpp"

#include <atomic>

#include "fatal.hpp"

namespace dynfunc {

constinit thread_local ThreadWork dynfunc_thread_work = 0;

namespace {

constexpr ThreadWork bit(LockRank rank) { return ThreadWork{1} << static_cast<unsigned>(rank); }

// Handlers of probes take locks, too.
ThreadWork held_ranks() noexcept { return dynfunc_thread_work & ~prepares_a_call; }

// A signal handler that comes to a probe interrupts at any instruction: it sees the lock from before the mutex is taken until
// after it is let go.
void mark(LockRank rank) noexcept {
    dynfunc_thread_work |= bit(rank);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}
void unmark(LockRank rank) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    dynfunc_thread_work &= ~bit(rank);
}

}  // namespace

void RankedMutex::lock() noexcept {
    if (held_ranks() >= bit(rank_)) fatal("a lock is taken against the order of ranks (a call back into the library?)");
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    mark(rank_);
    pthread_mutex_lock(&mutex_);
    cancel_state_ = before;
}

bool RankedMutex::try_lock() noexcept {
    if (held_ranks() >= bit(rank_)) return false;
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    mark(rank_);
    if (pthread_mutex_trylock(&mutex_) != 0) {
        unmark(rank_);
        pthread_setcancelstate(before, &before);
        return false;
    }
    cancel_state_ = before;
    return true;
}

void RankedMutex::unlock() noexcept {
    int before = cancel_state_;
    pthread_mutex_unlock(&mutex_);
    unmark(rank_);
    pthread_setcancelstate(before, &before);
}

bool RankedMutex::is_mine() const noexcept { return (dynfunc_thread_work & bit(rank_)) != 0; }

bool RankedMutex::reset_in_child() noexcept {
    unmark(rank_);
    const bool was_held = pthread_mutex_trylock(&mutex_) != 0;
    mutex_ = PTHREAD_MUTEX_INITIALIZER;
    return was_held;
}

}  // namespace dynfunc
