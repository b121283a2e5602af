// SPDX-License-Identifier: MIT
// The smallest program that needs an installed dynfunc-mimalloc, and nothing else of the library.
#include <cstdio>
#include <vector>

#include <dynfunc/mimalloc_heap.hpp>

int main() {
    dynfunc::MimallocHeap heap;
    std::pmr::vector<int> numbers(1000, 1, &heap);
    std::printf("%zu numbers in a heap of their own\n", numbers.size());
    return 0;
}
