// SPDX-License-Identifier: MIT
// What is made when it is first asked for, and never destroyed. A function-local static would do the same, but a process that
// is forked while another thread makes it would wait for that thread for ever.
#pragma once

#include <atomic>
#include <cstddef>
#include <new>

namespace dynfunc {

// Held while anything is made; a fork waits for it, after all other locks. A raw clone runs no handler: what was being made in
// its parent is made anew.
// Threads: any, again in the same thread; not in a signal handler. Meanwhile the thread is not cancelled.
class FirstUse {
public:
    FirstUse() noexcept { lock(); }
    ~FirstUse() { unlock(); }
    FirstUse(const FirstUse&) = delete;

private:
    static void lock() noexcept;
    static void unlock() noexcept;
    friend class FirstUseForks;
};

template <class T>
class MadeOnFirstUse {
public:
    // Blocks: while another thread makes something. Throws: what make() does, and is asked again.
    template <class Make>
    T& get(Make&& make) {
        if (!is_made_.load(std::memory_order_acquire)) {
            const FirstUse hold;
            if (!is_made_.load(std::memory_order_relaxed)) {
                new (storage_) T(make());
                is_made_.store(true, std::memory_order_release);
            }
        }
        return *reinterpret_cast<T*>(storage_);
    }

private:
    alignas(T) std::byte storage_[sizeof(T)]{};
    std::atomic<bool> is_made_{false};
};

}  // namespace dynfunc
