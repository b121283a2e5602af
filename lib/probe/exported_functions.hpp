// SPDX-License-Identifier: MIT
// The functions that a loaded object exports, by its own tables in memory.
#pragma once

#include <dynfunc/address.hpp>

#include <link.h>

#include <string>
#include <vector>

namespace dynfunc {

struct ExportedFunction {
    std::string name;
    Address at;
};

// A loaded object, as the dynamic linker lists it. Two with the same base and table are the same, while it is loaded.
struct LoadedObject {
    Address base;
    const ElfW(Dyn) * dynamic;
    std::string path;  // of the program: what it was started by
    bool is_program;

    bool is(const LoadedObject& other) const noexcept { return base == other.base && dynamic == other.dynamic; }
    // As matches_object() (object_pattern.hpp).
    bool matches(const std::string& pattern) const noexcept;
};

// Ascending by address, one for each; ifuncs are none. The object stays loaded meanwhile. Throws: std::bad_alloc.
std::vector<ExportedFunction> exported_functions(const LoadedObject& object, const std::string& pattern);

}  // namespace dynfunc
