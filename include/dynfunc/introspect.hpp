// SPDX-License-Identifier: MIT
// What the library does in this process, and why: reads everything, changes nothing.
//
//     std::puts(dynfunc::capabilities().text().c_str());
//         patched text, written through /proc/self/mem
//         pointer slots: membarrier(PRIVATE_EXPEDITED_SYNC_CORE): Operation not permitted (errno 1)
//     for (const dynfunc::FunctionInfo& f : dynfunc::functions())
//         std::printf("%s %s: %s\n", f.signature.c_str(), f.name.c_str(), dynfunc::to_string(f.form));
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dynfunc/address.hpp>
#include <dynfunc/detail/export.hpp>

namespace dynfunc {

// How calls reach the current target, best first.
enum class Form : std::uint8_t {
    patched,  // call site -> trampoline -> direct jump
    slot,     // call site -> trampoline -> jump through a pointer that each shared object holds for itself
    pointer,  // call site -> trampoline -> stub that asks the key; or, in a generic build, a call through the key's pointer
};

// How patched text is written.
enum class TextWriter : std::uint8_t {
    none,
    process_memory,  // /proc/self/mem: the page stays the file's, privately copied; nothing writable is ever mapped
    memory_file,     // the page is replaced by one of a memory file, which is mapped writable only during an update
};

DYNFUNC_EXPORT const char* to_string(Form) noexcept;
DYNFUNC_EXPORT const char* to_string(TextWriter) noexcept;

// Something better that this process may not have.
struct Refusal {
    const char* what;  // the system call, file or setting that stood in the way
    int os_error;      // errno, or 0 where nothing failed: a setting, or a machine that does not show patched text
};

// Found once, when the first shared object that uses the library starts, by trying each form on code of the library's own.
struct Capabilities {
    Form form;                        // what near targets get
    TextWriter writer;
    std::span<const Refusal> refusals;  // empty if form and writer are the best there are; lives as long as the process

    // One line for people. Throws: std::bad_alloc.
    DYNFUNC_EXPORT std::string text() const;
};

// Threads: any.  Blocks: only the very first caller, which tries the forms.
DYNFUNC_EXPORT const Capabilities& capabilities() noexcept;

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
    Address target;         // null if it was set to null
    Address default_target; // null if it was declared so
    Form form;              // of its slowest trampoline; capabilities().form where it has none
    std::vector<TrampolineInfo> trampolines;
};

// Every dynamic function of every loaded shared object, in no promised order.
// Threads:  any.  Blocks: yes, takes the library's text lock. Not from signal handlers.
// Throws:   std::bad_alloc.
DYNFUNC_EXPORT std::vector<FunctionInfo> functions();

// The function of this qualified name; of several (the same name in objects that hide their symbols) any one.
DYNFUNC_EXPORT std::optional<FunctionInfo> find_function(std::string_view name);

}  // namespace dynfunc
