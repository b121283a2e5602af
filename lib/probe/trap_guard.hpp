// SPDX-License-Identifier: MIT
// Keeps the signal of breakpoints ours while the program sets its own handler for it, or blocks it.
//
// A place of class breakpoint traps at every hit, one of class guarded where a thread stands inside of it, and both when they
// are made. So libc's sigaction() and pthread_sigmask(), which signal() and sigprocmask() end in too, have probes of the
// library's own: what the program sets as the handler of SIGTRAP is kept, answered and handed on to; the signal is left out of
// masks. What does not go through libc is not seen.
#pragma once

namespace dynfunc {

// Finds the functions. Throws: std::bad_alloc.
void prepare_trap_guard();
// Attaches those probes, once; where that is refused, the program's handlers are still taken from at each attach.
// Threads: no lock is held but that of patterns. Throws: std::bad_alloc.
void start_trap_guard();

}  // namespace dynfunc
