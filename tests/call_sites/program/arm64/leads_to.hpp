// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>

#include <dynfunc/address.hpp>

// Where the branch of this word leads.
inline dynfunc::Address leads_to(dynfunc::Address field) {
    std::uint32_t word;
    std::memcpy(&word, field.as<const void*>(), sizeof word);
    return field + static_cast<std::int32_t>(word << 6) / 64 * 4;
}
