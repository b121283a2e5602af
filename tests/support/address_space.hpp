// SPDX-License-Identifier: MIT
// What tests assert about the whole process.
#pragma once

#include <dynfunc/address.hpp>

#include <array>
#include <csignal>
#include <cstddef>
#include <string>

namespace dynfunc::test {

// The lines of /proc/self/maps that are writable and executable at once; empty if all is well.
std::string writable_code();

// The file behind the mapping that holds `at`; empty if there is none.
std::string file_mapped_at(Address at);

// How many mappings and how many open descriptors the process has.
std::size_t count_mappings();
std::size_t count_descriptors();

// The disposition of every signal, to be compared.
struct SignalDispositions {
    std::array<struct sigaction, 65> actions;
    static SignalDispositions now();
    // The first signal whose disposition differs, or 0; but for the one that may change.
    int difference(const SignalDispositions& other) const;
};

// What a suite may change: probes take SIGTRAP.
inline int signal_that_may_change = 0;

}  // namespace dynfunc::test
