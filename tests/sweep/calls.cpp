// SPDX-License-Identifier: MIT
// Calls and little else: what a tracer costs for each.
#include <cstdio>
#include <cstdlib>

[[gnu::noinline]] unsigned long fibonacci(unsigned long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

int main(int, char** words) { std::printf("%lu\n", fibonacci(std::strtoul(words[1], nullptr, 10))); }
