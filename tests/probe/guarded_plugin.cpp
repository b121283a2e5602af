// SPDX-License-Identifier: MIT
// Compiled with landing pads and signed return addresses (-mbranch-protection=standard); the test guards its pages.
#include <cstdint>
#include <stdexcept>

#define DYNFUNC_TEST_GUARDED extern "C" [[gnu::visibility("default"), gnu::noinline]]

using Inside = std::uint64_t (*)(void*);

DYNFUNC_TEST_GUARDED int guarded_twice(int x) { return 2 * x; }  // bti c

// Signs its return address at every depth: inside(data) + n.
DYNFUNC_TEST_GUARDED std::uint64_t guarded_deep(std::uint64_t n, Inside inside, void* data) {
    if (n == 0) return inside(data);
    const std::uint64_t result = guarded_deep(n - 1, inside, data);
    asm volatile("");  // no loop
    return result + 1;
}

// A table of jumps, to bti j each: as many cases as gcc wants for one.
#define DYNFUNC_TEST_CASE(n) \
    case n:                  \
        return (n) % 3 == 0 ? call(x + (n)) : (n) % 3 == 1 ? x * (n) ^ 0x55 : 1000 / (x + (n)) + x;
#define DYNFUNC_TEST_CASES(n)  \
    DYNFUNC_TEST_CASE(n)       \
    DYNFUNC_TEST_CASE((n) + 1) \
    DYNFUNC_TEST_CASE((n) + 2) \
    DYNFUNC_TEST_CASE((n) + 3) \
    DYNFUNC_TEST_CASE((n) + 4) \
    DYNFUNC_TEST_CASE((n) + 5)
DYNFUNC_TEST_GUARDED int guarded_switch(int which, int x, int (*call)(int)) {
    switch (which) {
        DYNFUNC_TEST_CASES(0)
        DYNFUNC_TEST_CASES(6)
        DYNFUNC_TEST_CASES(12)
        DYNFUNC_TEST_CASES(18)
        default:
            return call(-1) + 1;
    }
}

struct Counted {
    int* count;
    ~Counted() { ++*count; }
};

DYNFUNC_TEST_GUARDED void guarded_throws(int n, int* destroyed) {
    const Counted counted{destroyed};
    if (n == 0) throw std::runtime_error("thrown on a guarded page");
    guarded_throws(n - 1, destroyed);
}

DYNFUNC_TEST_GUARDED int guarded_catches(int n) {
    int destroyed = 0;
    try {
        guarded_throws(n, &destroyed);
    } catch (const std::runtime_error&) {
        return destroyed;
    }
    return -1;
}
