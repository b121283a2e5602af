// SPDX-License-Identifier: MIT
// The threads of one burst: pinned round robin over the CPUs, let go together, stopped together, and asked for the CPU time
// they got.
//
//     const Outcome outcome = run_threads({.threads = 4, .seconds = 0.02}, [](Worker& worker) {
//         worker.start();
//         std::uint64_t hits = 0;
//         for (; !worker.stopped(); ++hits) work();
//         worker.count(hits, 0);
//         worker.finish();
//     });
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace bench {

inline constexpr std::size_t cache_line = 64;

struct Burst {
    std::size_t threads;
    double seconds;
    double warm_up = 0;  // seconds before them, in which nothing is counted

    bool oversubscribed() const;  // more threads than CPUs
};

struct Outcome {
    double seconds;
    std::uint64_t hits, misses;                      // of the threads and their signal handlers
    double cpu_share;                                // CPU time of the threads / what they could have had
    double cpu_ns;                                   // CPU time of the threads
    std::uint64_t interrupts, misses_in_interrupts;  // of signal handlers, where there are some

    // Of one hit, all threads together; NaN if there was none. undisturbed_ns(): had they had all of their CPUs all the time,
    // by their CPU time: what other work takes does not count. It flatters what sleeps, and threads that are taken off their
    // CPUs are in nobody's way.
    double ns() const;
    double undisturbed_ns() const { return ns() * cpu_share; }
    // What a hit takes a thread, by its CPU time; NaN if there was none.
    double each_thread_ns() const;
};

class Turn;

// One thread of a burst. It makes its things ready, starts, works until it is stopped, counts, finishes, and tidies up. Where
// the burst has a warm-up, it works while warming() first, and then calls begin().
class Worker {
public:
    Worker(Turn& turn, std::size_t index) : turn_(turn), index_(index) {}

    std::size_t index() const { return index_; }
    void start();          // returns when all threads are ready
    bool warming() const;  // these two are asked about every microsecond
    bool stopped() const;
    void begin();  // this thread's CPU time counts from here, or from start()
    void count(std::uint64_t hits, std::uint64_t misses) { hits_ += hits, misses_ += misses; }
    void count_interrupts(std::uint64_t hits, std::uint64_t misses) {
        count(hits, misses);
        interrupts_ += hits + misses, misses_in_interrupts_ += misses;
    }
    void finish();  // the clock stops here

private:
    friend class Turn;
    Turn& turn_;
    std::size_t index_;
    std::uint64_t hits_ = 0, misses_ = 0, interrupts_ = 0, misses_in_interrupts_ = 0;
    double cpu_begin_ = 0, cpu_ns_ = 0, end_ = 0;
};

// Of the benches that show how something scales: the numbers of threads, and one round of each.
std::vector<std::size_t> scaling_threads(bool quick);
Burst scaling_burst(std::size_t threads, bool quick);

// Throws what a thread's work throws.
Outcome run_threads(const Burst& burst, const std::function<void(Worker&)>& work);

}  // namespace bench
