// SPDX-License-Identifier: MIT
// A callable object with other parameters than the tracepoint has.
// expect: dynfunc: the callback does not take the tracepoint's arguments
#include <dynfunc/tracepoint.hpp>

#include <string>

DYNFUNC_TRACEPOINT(step, void(int));

int main() {
    int sum = 0;
    return step.attach([&sum](const std::string& name) { sum += static_cast<int>(name.size()); }).has_value();
}
