// SPDX-License-Identifier: MIT
// A shared library that the program is linked with: calls its own dynamic function and the program's, each through a trampoline
// of its own.
#include "planted.hpp"

using namespace sites;

namespace {

int add_40(int x) { return x + 40; }
int minus_7(int x) { return x - 7; }

ONCE int calls_both(int x) {
    try {
        return step(x) + linked_step(may_throw(x));
    } catch (const Thrown& thrown) {
        return linked_step(thrown.value);
    }
}
ONCE int tail(int x) { return x > 3 ? linked_step(x) : step(x); }
ONCE void conditional_tail(int x) {
    if (x != 0) note(x);
}
ONCE int traced(int x) {
    int heard = 0;
    DYNFUNC_TRACE(linked_event, heard, linked_step(x));
    DYNFUNC_TRACE(event, heard, x);
    return heard;
}
[[gnu::cold, gnu::noinline]] int cold_part(int x) { return linked_step(x) + quiet(x); }

const int constructed_here = linked_step(3);

}  // namespace

namespace sites {
DYNFUNC(linked_step, int(int), &add_40);
DYNFUNC_TRACEPOINT(linked_event, void(int& heard, int n));
}  // namespace sites

void add_linked(Results& results) {
    for (const int x : {4, 3}) {
        results.add(calls_both(x));
        results.add(tail(x));
        conditional_tail(x - 3);
        results.add(traced(x));
        results.add(cold_part(x));
    }
    int (*volatile pointer)(int) = linked_step;
    results.add(pointer(1));
    results.add(inline_caller(8));
    results.add(template_caller<int, 9>(2));
    results.add(constructed_here);
    planted::add_planted_here(results);
}

int (*function_of_library())(int) { return &minus_7; }

bool are_linked_bytes_unchanged() { return planted::Bytes::now() == planted::at_start; }
