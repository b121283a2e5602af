// SPDX-License-Identifier: MIT
// A target with state.
// expect: dynfunc: the target must be a function of exactly this signature. A capturing lambda
#include <dynfunc/dynfunc.hpp>

static int one(int x) { return x + 1; }

DYNFUNC(step, int(int), &one);

int main() {
    int added = 2;
    return step.retarget([added](int x) { return x + added; }).has_value();
}
