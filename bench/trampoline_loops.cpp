// SPDX-License-Identifier: MIT
// Callers whose call sites stay with their trampolines: this file is compiled without unwind tables, without which the library
// recognises no call site.
#include "dynfunc_loops.hpp"

namespace bench {
namespace {

[[gnu::noinline]] void near_loop(std::uint64_t n) {
    chain(n, [](int x) { return near_call(x); });
}
[[gnu::noinline]] void page_loop(std::uint64_t n) {
    chain(n, [](int x) { return page_call(x); });
}

}  // namespace

const Loop near_trampoline_loop = &near_loop;
const Loop page_trampoline_loop = &page_loop;

void call_moving() {
    int x = moving(1);
    asm volatile("" ::"r"(x));
}

}  // namespace bench
