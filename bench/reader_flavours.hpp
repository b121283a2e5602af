// SPDX-License-Identifier: MIT
// Ways to keep readers and whoever takes things away apart, for the bench "readers".
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "threads.hpp"

namespace bench::readers {

struct Flavour {
    std::string id;
    void (*read)(std::size_t sections) = nullptr;  // null: not here, see `absent`
    void (*synchronize)() = nullptr;               // null: it has none
    std::string absent = {};                       // why it is not here
};

// In the order of the tables; the first protects nothing and is the baseline.
std::vector<Flavour> flavours();

// Its parts. liburcu's flavours cannot share a file: their names are macros of one another's.
void add_own(std::vector<Flavour>&);
void add_urcu_memb(std::vector<Flavour>&);
void add_urcu_bp(std::vector<Flavour>&);
void add_counters(std::vector<Flavour>&);

// What is protected: read by everyone, written by nobody.
struct alignas(2 * cache_line) Protected {
    std::atomic<std::uint64_t> word{1};
};
extern constinit Protected protected_data;

// Enters, reads one word, leaves, again and again. The word is used up inside the section, where the compiler also has to have
// finished with memory: so it can neither drop a section nor draw two together.
template <class Section>
[[gnu::noinline]] void read_in_sections(std::size_t sections) {
    for (std::size_t i = 0; i < sections; ++i) {
        [[maybe_unused]] Section inside;  // const, gcc 12 keeps it in memory
        const std::uint64_t word = protected_data.word.load(std::memory_order_relaxed);
        asm volatile("" ::"r"(word) : "memory");
    }
}

// As the library's synchronize() waits, so that they differ in what they wait for alone.
template <class Done>
void wait_until(Done done) {
    for (unsigned round = 0; !done(); ++round) {
        if (round < 16) {
            sched_yield();
        } else {
            const timespec pause{0, round < 64 ? 50'000 : 1'000'000};
            nanosleep(&pause, nullptr);
        }
    }
}

}  // namespace bench::readers
