// SPDX-License-Identifier: MIT
// Debian's libasmjit.a can be a part of a shared object but for one member, which is compiled for executables: it prints failed
// assertions. These stand in its place. They are weak: where a program has that member too, the member is taken.
#define ASMJIT_STATIC
#include <asmjit/core.h>

#include <cstdlib>

namespace asmjit::inline ASMJIT_ABI_NAMESPACE {

[[gnu::weak]] const char* DebugUtils::errorAsString(Error) noexcept { return "asmjit: an error"; }
[[gnu::weak]] void DebugUtils::debugOutput(const char*) noexcept {}
[[gnu::weak]] void DebugUtils::assertionFailed(const char*, int, const char*) noexcept { std::abort(); }

}  // namespace asmjit::inline ASMJIT_ABI_NAMESPACE
