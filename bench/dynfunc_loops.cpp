// SPDX-License-Identifier: MIT
#include "dynfunc_loops.hpp"

#include <dynfunc/dynfunc.hpp>

#include "callees.hpp"

namespace bench {

// Stand among the trampolines of this file, each on a cache line of its own: where the first trampoline shares the line of one,
// it does not share the line of the other.
[[gnu::noinline, gnu::aligned(64), gnu::section("dynfunc_text")]] int near_callee(int x) { return x + 1; }
[[gnu::noinline, gnu::aligned(64), gnu::section("dynfunc_text")]] int other_near_callee(int x) { return x + 1; }

DYNFUNC(near_call, int(int), &near_callee);
DYNFUNC(page_call, int(int), &callee_0);

namespace {

template <Callee* callee>
[[gnu::noinline]] void direct_loop(std::uint64_t n) {
    chain(n, [](int x) { return callee(x); });
}
[[gnu::noinline]] void near_loop(std::uint64_t n) {
    chain(n, [](int x) { return near_call(x); });
}
[[gnu::noinline]] void page_loop(std::uint64_t n) {
    chain(n, [](int x) { return page_call(x); });
}

constexpr std::uintptr_t page = 4096, cache_line = 64;

// A generic build has no trampoline: the call reaches the target itself, and no layout matters.
bool is_direct(Callee* call, Callee* target) { return call == target; }

bool share(std::uintptr_t unit, Callee* a, Callee* b) {
    return dynfunc::Address::of(a).value / unit == dynfunc::Address::of(b).value / unit;
}

}  // namespace

Layout near_layout() {
    const auto fits = [](Callee* callee) {
        return is_direct(near_call, callee) || (share(page, near_call, callee) && !share(cache_line, near_call, callee));
    };
    const bool first_fits = fits(&near_callee);
    Callee* const target = first_fits ? &near_callee : &other_near_callee;
    return {.name = "near",
            .function = "bench::near_call",
            .direct = first_fits ? &direct_loop<&near_callee> : &direct_loop<&other_near_callee>,
            .dynfunc = &near_loop,
            .as_named = fits(target) && near_call.retarget(target).has_value()};
}

Layout page_layout() {
    return {.name = "page",
            .function = "bench::page_call",
            .direct = &direct_loop<&callee_0>,
            .dynfunc = &page_loop,
            .as_named = is_direct(page_call, &callee_0) || !share(page, page_call, &callee_0)};
}

}  // namespace bench
