// SPDX-License-Identifier: MIT
// The counters of threads: a list that only grows, walked without a lock.
#include "hit_threads.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "fatal.hpp"
#include "os.hpp"
#include "return_records.hpp"
#include "sequences.hpp"

namespace dynfunc {
namespace {

constinit std::atomic<HitCounts*> all{nullptr};
pthread_key_t thread_end;
constinit bool has_thread_end = false;

template <class T>
T* map_zeroes(std::size_t bytes) noexcept {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
}

void release(void* counts) noexcept {
    dynfunc_hit_counts = nullptr;
    static_cast<HitCounts*>(counts)->in_use.store(false, std::memory_order_release);
}

HitCounts* claim() noexcept {
    for (HitCounts* counts = all.load(std::memory_order_acquire); counts != nullptr; counts = counts->next)
        if (!counts->in_use.load(std::memory_order_relaxed) && !counts->in_use.exchange(true, std::memory_order_acquire))
            return counts;
    auto* made = map_zeroes<HitCounts>(sizeof(HitCounts));
    if (made == nullptr) fatal("no memory for another thread that hits probes");
    made->in_use.store(true, std::memory_order_relaxed);
    made->next = all.load(std::memory_order_relaxed);
    while (!all.compare_exchange_weak(made->next, made, std::memory_order_release, std::memory_order_relaxed)) {
    }
    return made;
}

[[gnu::constructor(101)]] void start() noexcept { has_thread_end = pthread_key_create(&thread_end, release) == 0; }

[[gnu::destructor(101)]] void stop() noexcept {
    if (has_thread_end) pthread_key_delete(thread_end);
    has_thread_end = false;
}

}  // namespace

[[gnu::tls_model("initial-exec")]] constinit thread_local Delivery dynfunc_delivery{};
constinit thread_local HitCounts* dynfunc_hit_counts = nullptr;
constinit arch::WithVectors dynfunc_keep_vectors = nullptr;

void dynfunc_register_hit_thread(void*, Registers*) noexcept {
    const int before = errno;
    if (dynfunc_hit_counts == nullptr) {
        HitCounts* const counts = claim();
        counts->errno_at = &errno;
        mark_thread_without_sequences();  // the first code of a thread may have a probe
        dynfunc_hit_counts = counts;
        if (has_thread_end) pthread_setspecific(thread_end, counts);  // otherwise it is not reused: memory, no harm
    }
    { const ReadSection registered; }
    errno = before;
}

// A frame that is still there lies above whatever the thread does now, but for a handler on a stack of its own.
void forget_left_hit(const void* frame) noexcept {
    const std::uint64_t at = dynfunc_delivery.at;
    if (dynfunc_thread_work != 0 || at == 0 || at >= reinterpret_cast<std::uintptr_t>(frame)) return;
    const os::KeepErrno keep;
    stack_t stack{};
    if (sigaltstack(nullptr, &stack) != 0 || (stack.ss_flags & SS_ONSTACK) != 0) return;
    if (ReturnRecord* const popped = std::exchange(dynfunc_delivery.popped, nullptr)) give_back_instance(*popped);
    dynfunc_forget_tracked(std::exchange(dynfunc_delivery.tracked, nullptr), nullptr);
    if (detail::reader_word != nullptr) detail::reader_word->store(dynfunc_delivery.outer, std::memory_order_release);
    dynfunc_delivery.at = 0;
}

void dynfunc_forget_left_hit(void*, Registers* registers) noexcept {
    forget_left_hit(reinterpret_cast<const void*>(registers->stack_pointer()));
}

// Without memory the hit is not counted.
void dynfunc_make_hit_chunk(void* entry, Registers*) noexcept {
    make_hit_chunk(static_cast<const ConsumerList::Entry*>(entry)->chunk_at / sizeof(std::uint64_t*));
}

void make_hit_chunk(std::size_t chunk) noexcept {
    auto* made = map_zeroes<std::uint64_t>(HitCounts::chunk_size * sizeof(std::uint64_t));
    __atomic_store_n(&dynfunc_hit_counts->chunk[chunk], made, __ATOMIC_RELEASE);
}

std::uint64_t count_hits(std::uint32_t counter) noexcept {
    std::uint64_t sum = 0;
    for (HitCounts* counts = all.load(std::memory_order_acquire); counts != nullptr; counts = counts->next) {
        std::uint64_t* const chunk = __atomic_load_n(&counts->chunk[counter / HitCounts::chunk_size], __ATOMIC_ACQUIRE);
        if (chunk != nullptr) sum += __atomic_load_n(&chunk[counter % HitCounts::chunk_size], __ATOMIC_ACQUIRE);
    }
    return sum;
}

void free_counts_of_other_threads() noexcept {
    for (HitCounts* counts = all.load(std::memory_order_acquire); counts != nullptr; counts = counts->next)
        if (counts != dynfunc_hit_counts) counts->in_use.store(false, std::memory_order_relaxed);
}

}  // namespace dynfunc
