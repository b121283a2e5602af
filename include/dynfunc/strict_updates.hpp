// SPDX-License-Identifier: MIT
// Updates that do not rely on what manuals leave open.
//
//     if (auto strict = dynfunc::require_strict_updates(); !strict) std::puts(strict.error().message().c_str());
//
// A site of a dynamic function, a static key or a tracepoint changes by one store of an aligned word, while other threads run
// it. x86-64 processors were seen to run the old or the new instruction and nothing else, in every test (docs/decisions/0002);
// no manual promises it. What Intel's manual promises is the way of a strict update, the kernel's way:
//
//     bytes before                       e9 d0 d1 d2 d3
//     1. a breakpoint                    cc d0 d1 d2 d3      every core executes a serialising instruction
//     2. what stands behind it           cc n0 n1 n2 n3      ... again
//     3. the first byte                  e9 n0 n1 n2 n3      ... and again
//
// A thread that comes there in between traps, and the handler of SIGTRAP does for it what the new instruction does. What that
// costs: three synchronisations of all cores for one, and some microseconds for a thread that traps.
//
// Limits: a thread that blocks SIGTRAP and comes to a site at that moment ends the process (the system does that); so does a
// program that takes the signal during an update. A debugger stops at each such trap. Code that is being loaded, which nobody
// runs yet, is written by plain stores. An update may need memory, and is refused without.
#pragma once

#include <dynfunc/result.hpp>

namespace dynfunc {

// From now on, and for the rest of the process: a place that was changed that way can trap a thread which is on its way for as
// long as it likes. The environment may say it too, before main: DYNFUNC_STRICT=1. Nothing changes where no text is patched,
// and on machines whose manual promises what a plain store does (arm64). Threads: any, while others call.  Blocks: takes the
// library's text lock. Not from signal handlers.  Errors: text_not_writable with errno, where SIGTRAP cannot be handled;
// out_of_memory.
[[nodiscard]] DYNFUNC_EXPORT Result<void> require_strict_updates() noexcept;

// Threads: any.
DYNFUNC_EXPORT bool updates_are_strict() noexcept;

}  // namespace dynfunc
