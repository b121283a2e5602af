// SPDX-License-Identifier: MIT
// What a user of dynfunc-inspect writes: asks about one of its own functions.
#include <dynfunc/inspect.hpp>

#include <cstdio>

extern "C" [[gnu::noinline]] int price(int pieces) {
    std::printf("%d pieces, ", pieces);
    return 12 * pieces;
}

int main() {
    const int all = price(3);
    const auto found = dynfunc::inspect(dynfunc::Address::of(&price));
    if (!found) {
        std::puts(found.error().message().c_str());
        return 1;
    }
    for (const dynfunc::FunctionVerdict& function : found->functions)
        if (function.begin == dynfunc::Address::of(&price))
            std::printf("%d: %s %s\n", all, function.name.c_str(),
                        function.site < dynfunc::SiteClass::breakpoint ? "takes a jump" : dynfunc::to_string(function.site));
    return dynfunc::to_json(*found).empty() ? 1 : 0;
}
