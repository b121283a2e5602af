// SPDX-License-Identifier: MIT
// Compiled with -DINDIRECT_LOOPS=plain_loops, and with -DINDIRECT_LOOPS=retpoline_loops and the compiler's retpoline option.
#include "indirect_loops.hpp"

namespace bench {
namespace {

// A fresh load for every call: what the compiler may not know is what the program cannot know either.
template <class T>
T load(T& variable) {
    return *static_cast<T volatile*>(&variable);
}

[[gnu::noinline]] void pointer(std::uint64_t n) {
    chain(n, [](int x) { return load(callee_pointer)(x); });
}

[[gnu::noinline]] void virtual_call(std::uint64_t n) {
    chain(n, [](int x) { return load(adder)->add(x); });
}

[[gnu::noinline]] void rotating(std::uint64_t n, const std::uint8_t* order, std::uint64_t mask) {
    std::uint64_t i = 0;
    chain(n, [&](int x) { return callees[order[i++ & mask]](x); });
}

}  // namespace

const IndirectLoops INDIRECT_LOOPS = {&pointer, &virtual_call, &rotating};

}  // namespace bench
