// SPDX-License-Identifier: MIT
// The control: everything that the other cases get wrong, done right. This one must compile.
#include <dynfunc/dynfunc.hpp>

namespace {
int one(int x) { return x + 1; }
int& same(int& x) { return x; }
}  // namespace

DYNFUNC(step, int(int), &one);
DYNFUNC(reference, int&(int&), &same);

int main() {
    int value = step(1);
    if (!step.retarget(&one)) return 1;
    if (!step.retarget([](int x) { return x; })) return 1;
    if (!step.retarget(nullptr)) return 1;
    if (!dynfunc::retarget_all({step.to(&one)})) return 1;
    return reference(value);
}
