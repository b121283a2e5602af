// SPDX-License-Identifier: MIT
// What a test runs under. Sanitizers install signal handlers, instrument code and cannot follow a raw clone; a user-mode
// emulator (-DDYNFUNC_TEST_EMULATED) has handlers and locks of its own in the process, and no seccomp for it.
#pragma once

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

#if defined(DYNFUNC_TEST_EMULATED)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

}  // namespace dynfunc::test
