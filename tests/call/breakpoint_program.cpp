// SPDX-License-Identifier: MIT
// A program for gdb_breakpoint.py: calls from one place again and again, and retargets in between.
#include <dynfunc/call_sites.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include <cstdio>

namespace breakpoint {
int one(int x) { return x + 1; }
int two(int x) { return x + 2; }
DYNFUNC(function, int(int), &one);

[[gnu::noinline]] int call(int x) {
#if defined(__x86_64__)
    asm volatile(".p2align 3");  // so that one store replaces the distance, by every rule
#endif
    return 3 * function(x);
}
}  // namespace breakpoint

extern "C" {
std::uintptr_t site_address = 0;
[[gnu::noinline]] void site_is_known() { asm volatile(""); }
}

int main() {
    using namespace breakpoint;
    if (!dynfunc::set_call_sites(dynfunc::CallSites::always)) return 2;
    const auto sites = dynfunc::call_sites("breakpoint::function");
    if (sites.size() != 1 || !sites[0].patched) {
        std::printf("not patched: %s\n", sites.empty() ? dynfunc::call_site_patching().reason : sites[0].reason);
        return 77;
    }
    site_address = sites[0].field.value - 1;
    site_is_known();
    int wrong = call(1) != 6;
    if (!function.retarget(&two)) return 3;
    wrong += call(1) != 9;
    if (!function.retarget(&one)) return 4;
    wrong += call(1) != 6;
    if (!dynfunc::set_call_sites(dynfunc::CallSites::never)) return 5;
    wrong += call(1) != 6;
    std::puts(wrong == 0 ? "good" : "wrong results");
    return wrong == 0 ? 0 : 1;
}
