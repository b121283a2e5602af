// SPDX-License-Identifier: MIT
// What a traced program has done, for people and as JSON.
#pragma once

#include <dynfunc/result.hpp>
#include <dynfunc/site_class.hpp>

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call_tree.hpp"
#include "recording.hpp"

namespace dynfunc::tool {

struct TracedFunction {
    std::uint64_t at;  // as linked
    std::string name;  // demangled, or empty
    SiteClass site;    // of the file
};

struct FunctionResult {
    TracedFunction function;
    std::string module;
    bool is_attached = false;
    std::optional<Errc> refused{};
    std::uint64_t calls = 0, missed = 0;
    // In ticks; of calls that have ended.
    std::uint64_t ended = 0, total = 0, most = 0;
    std::uint64_t untimed = 0;  // calls from generated code, which may read its own stack
    std::vector<std::uint64_t> histogram{};

    void add(const trace::TimeRecord& record);
    // The middle of the step in which this part of the ended calls lies; 0 if none has ended.
    double quantile(double part) const noexcept;
};

struct TraceResult {
    std::vector<std::string> program;
    bool with_times = false, with_tree = false;
    double seconds = 0, ns_per_tick = 1;
    std::map<pid_t, std::string> processes{};  // and their names
    std::uint64_t untracked = 0;               // calls of which the begin was counted, and no time taken
    std::vector<FunctionResult> functions{};
    CallTree tree{};                                                     // its functions are places in those
    std::vector<std::pair<std::string, std::string>> refused_objects{};  // path, reason
};

// For people: never empty, and nothing that a terminal obeys.
std::string name_of(const FunctionResult& function);
std::string file_of(const std::string& path);

// The functions that were called, those with most time or calls first, and the tree; `top`: how many lines each has, 0: all.
// What was refused only at the end.
std::string table(const TraceResult& result, std::size_t top, bool is_end);

// One JSON object:
//     {"program": ["./server", "-v"], "seconds": 1.5, "processes": 1, "untracked": 0, "untimed": 0,
//      "functions": [{"module": "/usr/bin/server", "name": "parse", "at": "0x2010", "site": "whole", "attached": true,
//                     "calls": 12, "missed": 0, "ns": {"total": 4800, "mean": 400, "p50": 380, "p99": 900, "max": 931}}],
//      "refused": {"there is no room for a jump": 3}, "refused_objects": {"/lib/x.so": "…"}}
// "ns" only with times. Functions that were never called are in it too. With a tree also
//     "tree": [{"function": 17, "parent": null, "calls": 1, "ns": {"total": 9000, "self": 200}}, ...], "unplaced": 0
// where "function" and "parent" count in "functions" and "tree"; parents come first.
std::string to_json(const TraceResult& result);

// Lines "main;parse;next 4711": nanoseconds in the last function of that chain of callers.
std::string to_folded(const TraceResult& result);

}  // namespace dynfunc::tool
