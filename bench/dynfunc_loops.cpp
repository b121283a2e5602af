// SPDX-License-Identifier: MIT
#include "dynfunc_loops.hpp"

#include <cstring>
#include <dynfunc/call_sites.hpp>
#include <dynfunc/introspect.hpp>

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

dynfunc::Address start_of(Loop loop) { return dynfunc::Address::of(loop); }

constexpr std::ptrdiff_t loop_bytes = 128;  // no loop is longer

// Whether a call in the loop leads to that address. Looks for e8 rel32, the call of x86.
bool has_call_of(Loop loop, dynfunc::Address callee) {
    for (std::ptrdiff_t i = 0; i < loop_bytes; ++i) {
        const dynfunc::Address at = start_of(loop) + i;
        std::int32_t distance = 0;
        std::memcpy(&distance, (at + 1).as<const void*>(), sizeof distance);
        if (*at.as<const unsigned char*>() == 0xe8 && at + (1 + 4) + distance == callee) return true;
    }
    return false;
}

std::string why_not_patched(const char* function, Loop loop, Callee* trampoline) {
    if (const char* reason = dynfunc::call_site_patching().reason; *reason != '\0') return reason;
    if (dynfunc::call_site_patching().when == dynfunc::CallSites::never) return "DYNFUNC_CALL_SITES=0";
    for (const dynfunc::CallSiteInfo& site : dynfunc::call_sites(function)) {
        if (site.field < start_of(loop) || !(site.field < start_of(loop) + loop_bytes)) continue;
        if (site.patched && has_call_of(loop, dynfunc::Address::of(trampoline))) return "the library says it is, but it is not";
        return site.patched ? "" : site.reason;
    }
    return "the library did not recognise the call site";
}

// Without call sites nothing tells where a call leads, and it leads to the trampoline.
bool keeps_trampoline(Loop loop, Callee* trampoline) {
    return *dynfunc::call_site_patching().reason != '\0' || has_call_of(loop, dynfunc::Address::of(trampoline));
}

}  // namespace

Layout near_layout() {
    const auto fits = [](Callee* callee) {
        return is_direct(near_call, callee) || (share(page, near_call, callee) && !share(cache_line, near_call, callee));
    };
    const bool first_fits = fits(&near_callee);
    Callee* const target = first_fits ? &near_callee : &other_near_callee;
    const bool changed = near_call.retarget(&callee_0).has_value() && near_call.retarget(target).has_value();
    return {.name = "near",
            .function = "bench::near_call",
            .direct = first_fits ? &direct_loop<&near_callee> : &direct_loop<&other_near_callee>,
            .trampoline = near_trampoline_loop,
            .patched = &near_loop,
            .as_named = fits(target) && changed,
            .why_not_patched = why_not_patched("bench::near_call", &near_loop, near_call),
            .keeps_trampoline = keeps_trampoline(near_trampoline_loop, near_call)};
}

Layout page_layout() {
    const bool changed = page_call.retarget(callees[1]).has_value() && page_call.retarget(&callee_0).has_value();
    return {.name = "page",
            .function = "bench::page_call",
            .direct = &direct_loop<&callee_0>,
            .trampoline = page_trampoline_loop,
            .patched = &page_loop,
            .as_named = changed && (is_direct(page_call, &callee_0) || !share(page, page_call, &callee_0)),
            .why_not_patched = why_not_patched("bench::page_call", &page_loop, page_call),
            .keeps_trampoline = keeps_trampoline(page_trampoline_loop, page_call)};
}

}  // namespace bench
