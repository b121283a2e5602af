// SPDX-License-Identifier: MIT
// Which form of dynamic functions this process has, and what stood in the way of a better one.
//
//     std::puts(dynfunc::capabilities().text().c_str());
//         patched text, written through /proc/self/mem
//         pointer slots: membarrier(PRIVATE_EXPEDITED_SYNC_CORE): Operation not permitted (errno 1)
//
// The environment may ask for less, to compare or to rule a cause out; the text says so:
//     DYNFUNC_BACKEND=slot|pointer                        a lesser form
//     DYNFUNC_TEXT_WRITER=process_memory|memory_file      this way of writing text, or none
//     DYNFUNC_STRICT=1                                    updates in steps (strict_updates.hpp)
// and for more:
//     DYNFUNC_CALL_SITES=0|1                              call sites never, or from the start on (call_sites.hpp)
//     DYNFUNC_PROBE_CACHE=1                               set_probe_cache(true) (probe.hpp)
#pragma once

#include <cstdint>
#include <span>
#include <string>

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
    Form form;  // what near targets get
    TextWriter writer;
    std::span<const Refusal> refusals;  // empty if form and writer are the best there are; lives as long as the process

    // One line for people. Throws: std::bad_alloc.
    DYNFUNC_EXPORT std::string text() const;
};

// Threads: any.  Blocks: only the very first caller, which tries the forms.
DYNFUNC_EXPORT const Capabilities& capabilities() noexcept;

}  // namespace dynfunc
