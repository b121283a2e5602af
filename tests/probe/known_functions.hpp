// SPDX-License-Identifier: MIT
// Functions of this program whose bytes are known, and what is to be said of each: one for every verdict that the machine has.
#pragma once

#include <dynfunc/inspect.hpp>

#include <vector>

namespace dynfunc::test {

struct Known {
    const char* name;
    Address begin;
    std::size_t size;
    SiteClass site;
    Errc why{};
    Address in_the_way{};
};

// known_functions_<machine>.cpp. The first one's place is whole.
std::vector<Known> known_functions();

}  // namespace dynfunc::test
