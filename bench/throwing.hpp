// SPDX-License-Identifier: MIT
// An exception through ten functions, bare and with return probes on them. In a process of its own, as every attach tells the
// unwinder of more code for as long as the process lives.
#pragma once

#include <cstddef>
#include <expected>
#include <string>

namespace bench {

inline constexpr std::size_t thrown_through = 10;

// Nanoseconds of CPU time of one throw.
struct Throws {
    double bare;         // nothing is attached to anywhere
    double probed;       // through ten probed functions
    double bare_beside;  // through ten bare ones, while those are probed
};

// In the process that is to be measured. Error: in words, what it could not have.
std::expected<Throws, std::string> measure_throws();

}  // namespace bench
