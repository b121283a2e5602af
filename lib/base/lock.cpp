// SPDX-License-Identifier: MIT
#include "lock.hpp"

#include "fatal.hpp"

namespace dynfunc {

constinit thread_local ThreadWork dynfunc_thread_work = 0;

namespace {

constexpr ThreadWork bit(LockRank rank) { return ThreadWork{1} << static_cast<unsigned>(rank); }

// Handlers of probes take locks, too.
ThreadWork held_ranks() noexcept { return dynfunc_thread_work & ~delivers_a_hit; }

}  // namespace

void RankedMutex::lock() noexcept {
    if (held_ranks() >= bit(rank_)) fatal("a lock is taken against the order of ranks (a call back into the library?)");
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&mutex_);
    cancel_state_ = before;
    dynfunc_thread_work |= bit(rank_);
}

bool RankedMutex::try_lock() noexcept {
    if (held_ranks() >= bit(rank_)) return false;
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    if (pthread_mutex_trylock(&mutex_) != 0) {
        pthread_setcancelstate(before, &before);
        return false;
    }
    cancel_state_ = before;
    dynfunc_thread_work |= bit(rank_);
    return true;
}

void RankedMutex::unlock() noexcept {
    dynfunc_thread_work &= ~bit(rank_);
    int before = cancel_state_;
    pthread_mutex_unlock(&mutex_);
    pthread_setcancelstate(before, &before);
}

void RankedMutex::reset_in_child() noexcept {
    dynfunc_thread_work &= ~bit(rank_);
    mutex_ = PTHREAD_MUTEX_INITIALIZER;
}

}  // namespace dynfunc
