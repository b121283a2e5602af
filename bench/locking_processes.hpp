// SPDX-License-Identifier: MIT
// Real work for probes on functions of the C library: processes of which each locks its byte of one file, locks the file as a
// whole together with the others, and changes the protection of a page, over and over. Nobody waits for a lock.
//
//     const auto worked = run_processes({.processes = 4, .seconds = 0.05, .warm_up = 0.01}, &calls_seen);
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

namespace bench {

// The functions of the C library that one turn calls, each twice.
inline constexpr const char* called_in_turn[] = {"fcntl", "flock", "mprotect"};
inline constexpr std::uint64_t calls_per_turn = 6;

struct WorkBurst {
    std::size_t processes;
    double seconds, warm_up;
};

struct Worked {
    std::uint64_t turns, calls;  // calls: what calls_seen() counted in them, of all processes
    double cpu_ns;               // of the processes
    double seconds;              // from the first to the last of them
};

// Children of this process, with what it has attached, pinned round robin over the CPUs; let go and stopped together.
// `calls_seen` is asked in each of them before and after its turns. Error: in words, what was refused or how a child ended.
std::expected<Worked, std::string> run_processes(const WorkBurst&, std::uint64_t (*calls_seen)());

}  // namespace bench
