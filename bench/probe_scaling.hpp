// SPDX-License-Identifier: MIT
// What the benches of probes share: contestants, each of which arms a copy of a function for itself, so that all are armed at
// once and each round runs every one, back to back; and how what a hit costs scales with threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness.hpp"
#include "probe_targets.hpp"
#include "threads.hpp"

namespace bench::probes {

// What is probed as long as this lives.
struct Armed {
    std::shared_ptr<const void> probe;           // its end disarms
    std::string note = {};                       // stands in the figures of the rows
    std::function<std::uint64_t()> missed = {};  // calls so far that it did not serve; none: it serves all
};
using Arming = std::expected<Armed, std::string>;  // error: in words, why this process cannot have it

Arming arm_nothing(const Site&);

struct Contestant {
    std::string_view id;
    Arming (*arm)(const Site&);
    bool is_kernels = false;
    double most_ns_above = 0;  // a target: what one thread's call may cost more than the baseline's; 0: there is none
};

struct Contest {
    std::string bench;
    std::span<const Contestant> contestants;  // in the order of the tables; the first is the baseline and arms nothing
    std::vector<std::string_view> compared;   // those to which all get a ratio too, in the figures: "x_kernel_uprobe"
    std::vector<std::size_t> threads;
};

// On one target, every number of threads one after the other: calls per second of all threads.
void measure_target(Run&, const Contest&, const TargetFunction&);

// The work of one thread.
void call_while_asked(Worker&, Function*);

// What a contestant that has armed a function changes; and how it may fail all the same.
inline std::byte first_byte(const Site& site) { return *reinterpret_cast<const volatile std::byte*>(site.address()); }
inline constexpr const char *not_changed = "it was granted, but the function is as it was",
                            *returns_otherwise = "the probed function does not return what it did";

// Enough digits for the largest and the least.
std::string number(double value);

}  // namespace bench::probes
