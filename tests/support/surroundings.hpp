// SPDX-License-Identifier: MIT
// What a test runs under. Sanitizers install signal handlers, instrument code and cannot follow a raw clone; a user-mode
// emulator has handlers and locks of its own in the process, and no seccomp for it. Whoever starts an emulator says so in
// DYNFUNC_TEST_EMULATOR: `user`, or `system` for one of a whole machine, which has all that a kernel has and is slow.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace dynfunc::test {

#if defined(__has_feature)
#define DYNFUNC_TEST_FEATURE(name) __has_feature(name)
#else
#define DYNFUNC_TEST_FEATURE(name) 0
#endif

#if defined(__SANITIZE_THREAD__) || DYNFUNC_TEST_FEATURE(thread_sanitizer)
inline constexpr bool thread_sanitizer = true;
#else
inline constexpr bool thread_sanitizer = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || DYNFUNC_TEST_FEATURE(address_sanitizer)
inline constexpr bool address_sanitizer = true;
#else
inline constexpr bool address_sanitizer = false;
#endif

#undef DYNFUNC_TEST_FEATURE

inline std::string_view emulator() {
    const char* name = std::getenv("DYNFUNC_TEST_EMULATOR");
    return name != nullptr ? name : "";
}
inline const bool emulated = emulator() == "user";
// One thread of the host runs all processors of the emulated machine, each for a while: two threads meet only where a block of
// instructions ends, and what goes wrong between two instructions of one block does not.
inline const bool takes_turns = emulator() == "system";
inline constexpr const char* never_meet = "the emulator runs processors in turns: what this is to notice never happens";
inline constexpr const char* blocked_by_emulator =
    "a thread of the emulator's blocks every signal, and breakpoints are refused";
inline constexpr const char* no_other_memory_in_emulator =
    "the emulator has no process_vm_readv(), by which what may not be mapped is read";
inline const bool slow = thread_sanitizer || address_sanitizer || !emulator().empty();

// How many times to do what another thread must take note of. In an emulated machine that waits for its turn, 5 ms; who needs
// many turns asks for still fewer.
inline int rounds(int many, int fewer = 20) { return takes_turns ? std::max(1, many / fewer) : many; }

// For a thread that takes a lock over and over: where processors run in turns, whoever waits for it has its turn when it is
// held again, and may wait for minutes.
inline void let_others_have_the_lock() {
    if (takes_turns) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace dynfunc::test
