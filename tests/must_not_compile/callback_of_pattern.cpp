// SPDX-License-Identifier: MIT
// A pattern's callback that does not take a TraceEvent.
// expect: dynfunc: the callback is called with a const TraceEvent&
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

int main() {
    const auto count = [](int) {};
    return dynfunc::subscribe("*", count).has_value();
}
