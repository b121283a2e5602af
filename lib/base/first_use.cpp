// SPDX-License-Identifier: MIT
#include "first_use.hpp"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

namespace dynfunc {
namespace {

// The holder's process and thread, one word: whoever finds another process there is in a copy of it.
constexpr unsigned process_shift = 32;
constinit std::atomic<std::uint64_t> holder{0};
constinit unsigned depth = 0;
constinit int cancel_state = PTHREAD_CANCEL_ENABLE;  // of the holder, before

std::uint64_t me() noexcept {
    return static_cast<std::uint64_t>(getpid()) << process_shift | static_cast<std::uint32_t>(gettid());
}

}  // namespace

void FirstUse::lock() noexcept {
    const std::uint64_t mine = me();
    if (holder.load(std::memory_order_relaxed) == mine) {
        ++depth;
        return;
    }
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    for (std::uint64_t other = 0; !holder.compare_exchange_weak(other, mine, std::memory_order_acquire);) {
        if (other >> process_shift != mine >> process_shift) continue;  // nobody, or somebody of the parent
        const timespec pause{0, 50'000};
        nanosleep(&pause, nullptr);
        other = 0;
    }
    depth = 1;
    cancel_state = before;
}

void FirstUse::unlock() noexcept {
    if (--depth != 0) return;
    int before = cancel_state;
    holder.store(0, std::memory_order_release);
    pthread_setcancelstate(before, &before);
}

class FirstUseForks {
public:
    // Before the other layers', so that its lock comes last.
    [[gnu::constructor(101)]] static void watch() noexcept {
        pthread_atfork(&FirstUse::lock, &FirstUse::unlock, [] {
            holder.store(me(), std::memory_order_relaxed);  // the thread has another number here
            FirstUse::unlock();
        });
    }
};

}  // namespace dynfunc
