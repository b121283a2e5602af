// SPDX-License-Identifier: MIT
// A program that links only dynfunc, and sees the header nevertheless: needed.py looks at what it needs.
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/mimalloc_heap.hpp>

namespace {
int one() { return 1; }
}  // namespace

namespace program {
DYNFUNC(number, int(), &one);
std::pmr::memory_resource* resource_of(dynfunc::MimallocHeap& heap) { return &heap; }
}  // namespace program

int main() { return program::number() - 1; }
