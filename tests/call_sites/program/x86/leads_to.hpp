// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>

#include <dynfunc/address.hpp>

// Where the branch with this operand leads: relative to what follows.
inline dynfunc::Address leads_to(dynfunc::Address field) {
    std::int32_t distance;
    std::memcpy(&distance, field.as<const void*>(), sizeof distance);
    return field + 4 + distance;
}
