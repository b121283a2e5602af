// SPDX-License-Identifier: MIT
// Who takes part in the bench "pool".
#pragma once

#include <string>
#include <vector>

#include "pool_load.hpp"

namespace bench::pool {

struct Contestant {
    std::string id;
    Outcome (*burst)(const Load&) = nullptr;  // null: not here, see `absent`
    bool moves_objects = true;                // what one thread pushes, another can pop
    bool sleeps = false;                      // waiting threads give their CPU back, so that a low share of it says nothing
    bool aligns = true;                       // objects begin on a cache line if they are to
    const char* not_in_handlers = nullptr;    // why a signal handler must not use it; null: it may
    std::string absent = {};                  // why it is not here
    std::string form = {};                    // dynfunc: the back end, and why it is this one
};

// In the order of the tables; the first is the baseline.
std::vector<Contestant> contestants();

// Its parts, each in a file of its own.
void add_freelists(std::vector<Contestant>&);
void add_arrays(std::vector<Contestant>&);
void add_queues(std::vector<Contestant>&);
void add_allocators(std::vector<Contestant>&);
void add_dynfunc(std::vector<Contestant>&);

}  // namespace bench::pool
