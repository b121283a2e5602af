// SPDX-License-Identifier: MIT
// Measurements that need a process of their own, because the environment says how the library works before main, or because
// something is to happen for the first time. The process is this program again:
//
//     dynfunc-bench --fresh-process WORD ...       prints numbers
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "throwing.hpp"

namespace bench {

inline constexpr std::string_view fresh_process_word = "--fresh-process";

// In the new process: does what the words say; returns the exit status.
int be_fresh_process(const std::vector<std::string>& words);

// How one object starts, and the first changes in it. Times in nanoseconds of CPU time.
struct Start {
    double load;                           // dlopen()
    double first, again;                   // retarget() of one function; of another one, the first time for it too
    double all;                            // retarget_all() of every function, the first time for most of them
    double all_again;                      // the same once more
    double sites, patched, private_pages;  // at the end
};
// `environment`: "NAME=value"s. Of a module that announces no tables only `load` is measured.
std::expected<Start, std::string> start_fresh(const std::vector<std::string>& environment, const std::string& module);

// Retargets of 1000 functions, or of one function with 1000 call sites, per function or site. Medians of some turns.
struct SiteBatch {
    double patched;  // of its call sites
    double write;    // the same bytes written to /proc/self/mem as they are, and one membarrier; of `spread` the sites' alone
    double retarget;
};
struct SiteBatches {
    SiteBatch trampolines, dense, spread, one;
};
std::expected<SiteBatches, std::string> batches_fresh();

std::expected<Throws, std::string> throws_fresh();

}  // namespace bench
