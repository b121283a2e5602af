// SPDX-License-Identifier: MIT
// A refusal to detach that nobody reads.
// expect: ignoring return value
// expect: nodiscard
#include <dynfunc/tracepoint.hpp>

int main() {
    dynfunc::Subscription subscription;
    subscription.detach();
}
