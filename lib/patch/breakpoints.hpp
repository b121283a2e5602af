// SPDX-License-Identifier: MIT
// Breakpoints of the library's own: where a thread goes on that runs one.
//
// A place that was entered once stays: a thread may have run the breakpoint and be on its way to the handler when it is taken
// away, so the place that it goes on at has to be right with and without it.
//
// The handler of SIGTRAP is the process's. What traps and is not ours goes to whoever had the signal before; a program that
// takes the signal later takes ours too (Breakpoints::is_handling).
#pragma once

#include <dynfunc/result.hpp>

#include <signal.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace dynfunc {

class Breakpoints {
public:
    // From now on a thread that runs a breakpoint at `at` goes on at `resume`; once more for the same place changes it.
    // Threads: the text lock is held.  Errors: out_of_memory.
    static Result<void> enter(Address at, Address resume) noexcept;
    // It goes on as if the instruction of a site, of which these are the first bytes, stood at `at`.
    // Threads, errors: as above.
    using SiteCode = std::array<std::byte, 7>;
    static Result<void> enter(Address at, const SiteCode& instead) noexcept;
    // How often a place that was known has been given another address: while that stays the same, what was entered is as it
    // was. Threads: the text lock is held.
    static std::uint64_t changes() noexcept;
    // What was entered so; false: nothing.
    static bool find(Address at, SiteCode& instead) noexcept;
    // For a thread that ran a breakpoint: false: it is none of ours.  Threads: signal handlers; takes no lock.
    static bool go_on(void* context) noexcept;

    // A cache for each CPU in front of the table (lookup_cache.hpp); off at first. The memory stays when it is switched off.
    // Threads: the text lock is held.  Errors: out_of_memory.
    static Result<void> set_cache(bool on, std::size_t cpus) noexcept;
    static bool has_cache() noexcept;  // Threads: any.

    // Takes SIGTRAP, and hands on to `sigaction` of before what is not ours; nothing is done where it is ours already.
    // Threads: the text lock is held.  Errors: text_not_writable with errno.
    static Result<void> handle() noexcept;
    static bool is_handling() noexcept;

    // As sigaction() of the signal, if we were not there: what the program sets is what is handed on to. Either may be null.
    // Threads: any, but not handlers of that signal.
    static void set_former(const struct sigaction* next, struct sigaction* before) noexcept;
    // In the only thread of a child process.
    static void reset_in_child() noexcept;
};

}  // namespace dynfunc
