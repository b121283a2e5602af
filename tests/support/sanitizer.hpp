// SPDX-License-Identifier: MIT
// Which sanitizer this test was compiled with: they install signal handlers, instrument code and cannot follow a raw clone.
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

}  // namespace dynfunc::test
