// SPDX-License-Identifier: MIT
// A copy of a subscription: which of the two would detach?
// expect g++: use of deleted function
// expect clang++: call to implicitly-deleted copy constructor of 'const dynfunc::Subscription'
#include <dynfunc/tracepoint.hpp>

int main() {
    dynfunc::Subscription subscription;
    const dynfunc::Subscription copy = subscription;
    return copy.is_attached();
}
