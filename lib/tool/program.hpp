// SPDX-License-Identifier: MIT
// Programs, and what would be loaded with them; nothing of a program is executed, but for the dynamic linker that it names.
#pragma once

#include <expected>
#include <string>
#include <vector>

namespace dynfunc::tool {

struct Program {
    std::string path;
    std::string linker;  // the dynamic linker that it asks for; empty: it is linked statically
};

// Errors are in words, for people.  Throws: std::bad_alloc.
template <class T>
using Found = std::expected<T, std::string>;

// As a shell finds it: in PATH, unless there is a slash in the name.
Found<Program> find_program(const std::string& name);

// The program's own path, then those of the shared objects that its dynamic linker would load at its start. It is the linker
// that is run, and asked (--list).
Found<std::vector<std::string>> objects_of(const Program& program);

}  // namespace dynfunc::tool
