// SPDX-License-Identifier: MIT
// From where a signature's arguments end (dynfunc/detail/arguments.hpp) to what a chain has to save and copy for them.
//
//     auto size = arch::chain_bytes(callees.size(), argument_layout(detail::argument_places<std::uint64_t, double>()));
#pragma once

#include <dynfunc/detail/arguments.hpp>

#include "arch.hpp"

namespace dynfunc {

// Of the machine of this build. Where that one has no chains, the layout means nothing.
arch::ArgumentLayout argument_layout(const detail::ArgumentPlaces& places) noexcept;

}  // namespace dynfunc
