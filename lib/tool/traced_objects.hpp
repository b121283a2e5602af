// SPDX-License-Identifier: MIT
// The objects that traced processes have loaded, and what is wanted of them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "shared_memory.hpp"
#include "trace.hpp"
#include "trace_report.hpp"

namespace dynfunc::tool {

class TracedObjects {
public:
    // The first object that is found is the program. `agent`, which is never wanted: its path.
    TracedObjects(const Trace& trace, std::string agent) : trace_(trace), agent_(std::move(agent)) {}

    // The functions of an object that match, in a file for the process that has loaded it; null: none.
    // Throws: Failure, std::bad_alloc.
    const SharedMemory* list(const std::string& path, std::size_t& count);

    // Of all lists: functions that are attached or refused, and all.
    std::pair<std::size_t, std::size_t> progress() const noexcept;
    // All functions, with what is known but calls and times. `by_number`: those, by the numbers in the lists.
    void add_to(TraceResult& result, std::vector<FunctionResult*>& by_number) const;

private:
    struct Object {
        std::string path;
        std::vector<TracedFunction> functions{};
        std::size_t first_number = 0;
        std::string refusal{};  // why nothing of it is traced
        std::vector<std::unique_ptr<SharedMemory>> lists{};
    };

    Object& find(const std::string& path);
    bool is_wanted(const std::string& path) const;

    const Trace& trace_;
    const std::string agent_;
    std::map<std::size_t, Object> objects_;  // in the order in which they were met
    std::map<std::string, std::size_t> order_;
    std::size_t numbers_ = 0;
};

}  // namespace dynfunc::tool
