// SPDX-License-Identifier: MIT
// Call sites that are patched themselves: `crc(bytes)` becomes a direct call of its target, without the trampoline in between.
//
//     dynfunc::set_call_sites(dynfunc::CallSites::always);   // at a moment of your choice, when everything is loaded
//
// How: in the text of each object that calls dynamic functions or fires tracepoints the library looks for direct branches
// (call, jmp, jcc) to the object's own trampolines, and confirms each by reading the instructions from the function's beginning
// on. Of a confirmed one, the distance is patched together with the trampoline, under the same lock and with the same
// membarrier.
//
// What if a call site is not patched? It calls the trampoline, which is always right. That goes for
//   - sites whose distance field lies across a boundary of aligned 8-byte words, so that one store does not replace it while
//     threads run: a third or more of those that compilers make. With the options of dynfunc::align_call_sites (CMake),
//     align_cflags_gcc and align_cflags_clang (pkg-config) or -Dalign_call_sites=true (Meson) it is none of clang's, and a
//     fifth of gcc's (docs/decisions/0008)
//   - targets more than 2 GiB away, and null targets of functions without a result, of which the trampoline itself returns
//   - indirect calls through the function's address, and code without an unwind table
// FunctionInfo::call_sites (introspect.hpp) counts them, with the reasons.
//
// What it costs: reading the object's text once (3 to 4 GiB a second, if it need not come from the disk), reading the
// instructions of functions with such calls (0.1 to 0.2 us each), and a private copy of each 4 KiB page in which something is
// patched; objects() counts those.
//
// The environment may say it too, before main: DYNFUNC_CALL_SITES=0 (never), 1 (always).
#pragma once

#include <cstddef>
#include <cstdint>

#include <dynfunc/detail/export.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

enum class CallSites : std::uint8_t {
    never,      // every call goes through its trampoline
    on_change,  // looked for in an object when a function that it calls is retargeted, or a tracepoint that it fires is
                // attached to; or when it is loaded, if that has happened before. Confirmed and patched function by function.
                // Nothing is read before main because of it, and nothing at all in a process that never changes anything
    always,     // all of them, in every object, also for functions that still have their default target
};
DYNFUNC_EXPORT const char* to_string(CallSites) noexcept;

// How it is done in this process.
struct CallSitePatching {
    CallSites when;
    const char* reason;  // why no call site is ever patched, in words; empty if they are
};

// Threads: any.  Blocks: yes, takes the library's text lock. Not from signal handlers.
DYNFUNC_EXPORT CallSitePatching call_site_patching() noexcept;

// Changes it, for the objects that are loaded and for those to come. `always` looks for all call sites now; `never` leads them
// back to their trampolines. on_change leaves alone those that are patched.
// Threads:  any, while others call.
// Blocks:   yes, takes the library's text lock, for as long as reading the text takes. Not from signal handlers.
// Errors:   bytes_changed, out_of_memory, text_not_writable, sync_failed; then every call site is as it was and `when` is not
//           changed. No error where call sites cannot be patched in this process: `reason` says so.
[[nodiscard]] DYNFUNC_EXPORT Result<void> set_call_sites(CallSites when) noexcept;

}  // namespace dynfunc
