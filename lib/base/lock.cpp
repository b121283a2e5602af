// SPDX-License-Identifier: MIT
#include "lock.hpp"

#include "fatal.hpp"

namespace dynfunc {
namespace {

// One bit per rank this thread holds.
[[gnu::tls_model("initial-exec")]] thread_local constinit std::uint8_t held_ranks = 0;

constexpr std::uint8_t bit(LockRank rank) { return static_cast<std::uint8_t>(1u << static_cast<unsigned>(rank)); }

}  // namespace

void RankedMutex::lock() noexcept {
    if (held_ranks >= bit(rank_)) fatal("a lock is taken against the order of ranks (a call back into the library?)");
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&mutex_);
    cancel_state_ = before;
    held_ranks |= bit(rank_);
}

void RankedMutex::unlock() noexcept {
    held_ranks &= static_cast<std::uint8_t>(~bit(rank_));
    int before = cancel_state_;
    pthread_mutex_unlock(&mutex_);
    pthread_setcancelstate(before, &before);
}

void RankedMutex::reset_in_child() noexcept {
    held_ranks &= static_cast<std::uint8_t>(~bit(rank_));
    mutex_ = PTHREAD_MUTEX_INITIALIZER;
}

}  // namespace dynfunc
