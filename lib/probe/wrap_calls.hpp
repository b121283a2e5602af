// SPDX-License-Identifier: MIT
// What a wrapper asks at the begin and the end of every call (WrapContext).
#pragma once

#include <dynfunc/detail/wrap_core.hpp>

namespace dynfunc {

// Threads: any, also in signal handlers.  Blocks: never; a thread's first call takes memory.
detail::WrapCore* begin_wrapped_call(detail::WrapContext& context) noexcept;
void end_wrapped_call(detail::WrapCore& core) noexcept;

}  // namespace dynfunc
