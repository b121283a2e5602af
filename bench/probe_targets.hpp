// SPDX-License-Identifier: MIT
// The functions that the benches "probes" and "return_probes" put probes on. There are many copies of each, every one with
// unwind information and on a cache line of its own, so that each contestant has one for itself and all can be armed at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench::probes {

using Function = int(int);

// One copy of a target.
struct Site {
    Function* function;
    std::size_t first_size;  // bytes of its first instruction, which runs anywhere

    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(function); }
};

struct TargetFunction {
    const char* id;
    const char* text;  // what it begins with
    const std::byte* code;
    std::size_t first_size;
    Function* answer;  // what a copy returns; null: nothing that is known

    Site site(std::size_t copy) const;
    // Whether the copy still does what it did before anybody changed it.
    bool works(const Site&) const;
};

// A page that this library has written to may be a page of another file, and the kernel's probes are on this program's. So the
// first page of each target is the kernel's, and nobody else probes what is on it.
inline constexpr std::size_t copies = 4096, copies_of_kernel = 64;

// In the order of the tables.
const std::vector<TargetFunction>& targets();

}  // namespace bench::probes
