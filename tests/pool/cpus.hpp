// SPDX-License-Identifier: MIT
// Pools on machines that are not here: a topology of as many CPUs as wanted, and threads that believe to be on one of them.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "pool.hpp"
#include "sequences.hpp"
#include "topology.hpp"

namespace dynfunc::test {

// CPU c belongs to node c % nodes; `sharers` CPUs of a node share a cache.
inline Topology interleaved(std::size_t nodes, std::size_t cpus, std::size_t sharers) {
    const auto narrow = [](std::size_t n) { return static_cast<std::uint16_t>(n); };
    Topology topology;
    topology.cpus.resize(cpus);
    topology.at.resize(cpus);
    const std::size_t of_node = cpus / nodes;
    for (std::size_t node = 0; node < nodes; ++node) topology.nodes.push_back(narrow(node));
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        const std::size_t node = cpu % nodes, position = node * of_node + cpu / nodes;
        const std::size_t cache = position / sharers * sharers;
        topology.cpus[cpu] = {.position = narrow(position),
                              .cache_begin = narrow(cache),
                              .cache_end = narrow(cache + sharers),
                              .node_begin = narrow(node * of_node),
                              .node_end = narrow((node + 1) * of_node),
                              .node = narrow(node)};
        topology.at[position] = narrow(cpu);
    }
    return topology;
}

// What the kernel would tell the sequences of a thread (struct rseq); it does not know of this one, and interrupts none.
struct alignas(32) ToldCpu {
    std::uint32_t cpu_id_start = 0, cpu_id = 0;
    std::uint64_t sequence = 0, unused[2] = {};
};
[[gnu::tls_model("initial-exec")]] inline thread_local constinit ToldCpu told_cpu;

// The calling thread's next operations, while ToldCpus lives, believe that it is on this CPU.
inline void be_on(unsigned cpu) {
    told_cpu.cpu_id_start = told_cpu.cpu_id = cpu;
    cpu_guess = {.cpu = cpu, .uses = 1};
}
inline std::ptrdiff_t told_area() {
    std::byte* const pointer = detail::Restartable::thread_pointer();
    return pointer == nullptr ? 0 : reinterpret_cast<std::byte*>(&told_cpu) - pointer;
}

// As long as this lives, all threads believe be_on(), in the sequences of pools that are made meanwhile too.
class ToldCpus {
public:
    ToldCpus() : ToldCpus(told_area()) {}
    // Without sequences, which several threads must not run that believe to be on one CPU.
    static ToldCpus without_sequences() { return ToldCpus(0); }
    ~ToldCpus() { cpu_area = area_; }
    ToldCpus(const ToldCpus&) = delete;

private:
    explicit ToldCpus(std::ptrdiff_t area) : area_((static_cast<void>(sequence_support()), std::exchange(cpu_area, area))) {}

    std::ptrdiff_t area_;  // that tells the truth
};

inline std::vector<int> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    std::vector<int> cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    return cpus;
}

// The calling thread really stays on a CPU as long as this lives.
class OnCpu {
public:
    explicit OnCpu(int cpu) {
        sched_getaffinity(0, sizeof before_, &before_);
        move_to(cpu);
    }
    ~OnCpu() { sched_setaffinity(0, sizeof before_, &before_); }
    OnCpu(const OnCpu&) = delete;
    static bool move_to(int cpu, pid_t thread = 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<std::size_t>(cpu), &one);
        return sched_setaffinity(thread, sizeof one, &one) == 0;
    }

private:
    cpu_set_t before_;
};

inline detail::PoolPlan plan_of(std::size_t capacity, PoolBackEnd back_end) {
    return {.capacity = capacity,
            .object_bytes = 64,
            .alignment = 64,
            .back_end = back_end,
            .huge_pages = false,
            .checks = PoolChecks::off,
            .memory = nullptr,
            .allocate = nullptr,
            .deallocate = nullptr,
            .context = nullptr,
            .construct = nullptr,
            .destroy = nullptr};
}

struct LeavePool {
    void operator()(Pool* pool) const { detail::leave_pool(*pool); }
};
using OwnedPool = std::unique_ptr<Pool, LeavePool>;

// Of objects of 64 bytes.
inline OwnedPool pool_on(const Topology& topology, std::size_t capacity, PoolBackEnd back_end) {
    return OwnedPool(create_pool_on(topology, topology.cpus.size(), plan_of(capacity, back_end)).value());
}

inline void* pop_on(Pool& pool, unsigned cpu) {
    be_on(cpu);
    return detail::pool_pop(pool);
}
inline void push_on(Pool& pool, unsigned cpu, void* object) {
    be_on(cpu);
    detail::pool_push(pool, object);
}

}  // namespace dynfunc::test
