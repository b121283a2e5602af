// SPDX-License-Identifier: MIT
// The smallest program that needs every part of an installed library: headers, code, and the tables that the linker makes.
#include <cstdio>

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>

namespace shop {

int plain(int price) { return price; }
int discounted(int price) { return price - price / 10; }

DYNFUNC(final_price, int(int), &plain);

}  // namespace shop

int main() {
    const int before = shop::final_price(200);
    if (auto done = shop::final_price.retarget(&shop::discounted); !done) {
        std::printf("%s\n", done.error().message().c_str());
        return 1;
    }
    dynfunc::synchronize();
    const auto info = dynfunc::find_function("shop::final_price");
    if (!info) {
        std::puts("shop::final_price is not listed");
        return 1;
    }
    std::printf("%s %s: %d, then %d\n", info->signature.c_str(), info->name.c_str(), before, shop::final_price(200));
    std::fprintf(stderr, "%s\n", dynfunc::capabilities().text().c_str());
    return 0;
}
