// SPDX-License-Identifier: MIT
// Flavours of the bench "readers" that count: srcu, the kernel's sleepable RCU in user space; shared-counter, one for all;
// shared-mutex, the standard library's.
#include <algorithm>
#include <array>
#include <mutex>
#include <shared_mutex>

#include "pool_cpu.hpp"
#include "reader_flavours.hpp"

namespace bench::readers {
namespace {

// The kernel counts with plain instructions that one CPU executes as a whole, and has a full fence beside each. Here the
// addition is atomic, as the thread may be moved in between; on x86 it is the fence as well.
void full_fence_beside_atomic() {
#if !defined(__x86_64__)
    std::atomic_thread_fence(std::memory_order_seq_cst);
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

class Srcu {
public:
    // Returns what leave() wants to know.
    unsigned enter() noexcept {
        const unsigned phase = phase_.load(std::memory_order_relaxed) & 1;
        here().entered[phase].fetch_add(1, std::memory_order_seq_cst);
        full_fence_beside_atomic();  // counted, then read: pairs with the fence in nobody_is_in()
        return phase;
    }
    void leave(unsigned phase) noexcept {
        full_fence_beside_atomic();  // read, then counted
        here().left[phase].fetch_add(1, std::memory_order_seq_cst);
    }
    void synchronize() {
        const std::lock_guard hold(one_at_a_time_);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const unsigned old = phase_.load(std::memory_order_relaxed) & 1;
        // Readers that read the phase before the last flip, and counted after it was waited for.
        wait_until([&] { return nobody_is_in(old ^ 1); });
        std::atomic_thread_fence(std::memory_order_seq_cst);
        phase_.store(old ^ 1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        wait_until([&] { return nobody_is_in(old); });
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }

private:
    struct alignas(2 * cache_line) Counters {
        std::array<std::atomic<std::uint64_t>, 2> entered{}, left{};  // by phase; a reader may leave on another CPU
    };
    static constexpr std::size_t most_cpus = 1024;  // beyond them CPUs share

    Counters& here() noexcept { return counters_[pool::current_cpu() % most_cpus]; }

    // Those that left are counted first: who leaves meanwhile is taken for one that is still in, never the other way round.
    bool nobody_is_in(unsigned phase) const noexcept {
        const std::size_t cpus = std::min(pool::cpus(), most_cpus);
        std::uint64_t entered = 0, left = 0;
        for (std::size_t i = 0; i < cpus; ++i) left += counters_[i].left[phase].load(std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        for (std::size_t i = 0; i < cpus; ++i) entered += counters_[i].entered[phase].load(std::memory_order_relaxed);
        return entered == left;
    }

    alignas(2 * cache_line) std::atomic<unsigned> phase_{0};
    std::array<Counters, most_cpus> counters_{};
    std::mutex one_at_a_time_;
};

class SharedCounter {
public:
    void enter() noexcept { inside_.fetch_add(1, std::memory_order_seq_cst); }
    void leave() noexcept { inside_.fetch_sub(1, std::memory_order_release); }
    // With enough readers never: they never are all outside.
    void synchronize() {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        wait_until([&] { return inside_.load(std::memory_order_acquire) == 0; });
    }

private:
    alignas(2 * cache_line) std::atomic<std::uint64_t> inside_{0};
};

struct alignas(2 * cache_line) SharedMutex {
    std::shared_mutex mutex;
};

constinit Srcu srcu;
constinit SharedCounter shared_counter;
SharedMutex shared_mutex;

struct SrcuSection {
    SrcuSection() noexcept : phase(srcu.enter()) {}
    ~SrcuSection() { srcu.leave(phase); }
    const unsigned phase;
};
struct CounterSection {
    CounterSection() noexcept { shared_counter.enter(); }
    ~CounterSection() { shared_counter.leave(); }
};
struct MutexSection {
    const std::shared_lock<std::shared_mutex> lock{shared_mutex.mutex};
};

}  // namespace

void add_counters(std::vector<Flavour>& all) {
    all.push_back({.id = "srcu", .read = &read_in_sections<SrcuSection>, .synchronize = [] { srcu.synchronize(); }});
    all.push_back({.id = "shared-counter", .read = &read_in_sections<CounterSection>, .synchronize = [] {
                       shared_counter.synchronize();
                   }});
    all.push_back({.id = "shared-mutex", .read = &read_in_sections<MutexSection>, .synchronize = [] {
                       const std::lock_guard nobody_inside(shared_mutex.mutex);
                   }});
}

}  // namespace bench::readers
