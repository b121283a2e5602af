// SPDX-License-Identifier: MIT
// `dynfunc trace`: starts a program with the agent preloaded (lib/trace/agent.cpp), tells the agent which functions are wanted,
// and reports what it has recorded.
#pragma once

#include <string>
#include <vector>

namespace dynfunc::tool {

enum class Format {
    json,    // every function
    folded,  // every chain of callers, a line each: what flame graphs are drawn from
    chrome,  // every call with its begin: the trace event format of Chrome, which Perfetto and Speedscope read too
};

struct Trace {
    std::vector<std::string> program;             // and its arguments
    std::vector<std::string> modules, functions;  // patterns; without any: the program, every function
    bool with_times = false;
    bool with_tree = false;  // needs times
    bool with_breakpoints = false;
    unsigned most_active = 1024, top = 40;
    unsigned most_events = 1 << 17;  // of each thread, the last ones; a power of two; for Format::chrome, which needs the tree
    double every = 0;                // seconds; 0: at the end
    std::string output;              // a file; empty: none
    Format format = Format::json;
};

// Returns as the program does, or is ended by the signal that ended it. Prints to standard error alone.
// Throws: std::bad_alloc.
int run(const Trace& trace);

}  // namespace dynfunc::tool
