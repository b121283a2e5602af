// SPDX-License-Identifier: MIT
// Why something is not patched, in words; empty if it is. Every text that snapshots show stands in reasons.cpp.
#pragma once

#include <dynfunc/capabilities.hpp>
#include <dynfunc/detail/tables.hpp>

#include "call_sites.hpp"

namespace dynfunc {

struct StateText {
    Form form;
    const char* reason;
};

// Threads: the text lock is held around every call.
StateText text_of(detail::TrampolineState state) noexcept;
const char* reason(detail::BranchState state) noexcept;
const char* reason(const CallSite& site, const detail::TrampolineRecord& record) noexcept;
// Why no call sites were looked for in an object that has no table of them.
const char* reason(const detail::Tables& tables) noexcept;

}  // namespace dynfunc
