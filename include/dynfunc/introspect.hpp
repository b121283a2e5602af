// SPDX-License-Identifier: MIT
// What the library does in this process, and why: reads everything, changes nothing.
//
//     for (const dynfunc::FunctionInfo& f : dynfunc::functions())
//         std::printf("%s %s: %s\n", f.signature.c_str(), f.name.c_str(), dynfunc::to_string(f.form));
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <dynfunc/address.hpp>
#include <dynfunc/capabilities.hpp>
#include <dynfunc/detail/export.hpp>

namespace dynfunc {

// One trampoline of a function: there is one in each executable or shared object that calls it.
struct TrampolineInfo {
    Address code;
    Form form;
    const char* reason;  // why it is not patched, in words; empty if it is
};

// A copy, taken at one moment; it stays valid when the shared object leaves.
struct FunctionInfo {
    std::string name;       // qualified: "codec::crc"
    std::string signature;  // as written at its definition
    std::string file;
    unsigned line;
    Address target;          // null if it was set to null
    Address default_target;  // null if it was declared so
    Form form;               // of its slowest trampoline; capabilities().form where it has none
    std::vector<TrampolineInfo> trampolines;
};

// Every dynamic function of every loaded shared object, in no promised order.
// Threads:  any.  Blocks: yes, takes the library's text lock. Not from signal handlers.
// Throws:   std::bad_alloc.
DYNFUNC_EXPORT std::vector<FunctionInfo> functions();

// The function of this qualified name; of several (the same name in objects that hide their symbols) any one.
DYNFUNC_EXPORT std::optional<FunctionInfo> find_function(std::string_view name);

}  // namespace dynfunc
