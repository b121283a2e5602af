// SPDX-License-Identifier: MIT
// `dynfunc trace`: starts a program with the agent preloaded (lib/trace/agent.cpp), tells the agent which functions are wanted,
// and reports what it has recorded.
#pragma once

#include <string>
#include <vector>

namespace dynfunc::tool {

struct Trace {
    std::vector<std::string> program;             // and its arguments
    std::vector<std::string> modules, functions;  // patterns; without any: the program, every function
    bool with_times = false, with_breakpoints = false;
    unsigned most_active = 1024, top = 40;
    double every = 0;    // seconds; 0: at the end
    std::string output;  // a file for JSON; empty: none
};

// Returns as the program does, or is ended by the signal that ended it. Prints to standard error alone.
// Throws: std::bad_alloc.
int run(const Trace& trace);

}  // namespace dynfunc::tool
