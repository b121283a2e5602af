// SPDX-License-Identifier: MIT
// A read section that ends where it begins.
// expect: nodiscard
#include <dynfunc/grace_period.hpp>

int main() { dynfunc::ReadSection(); }
