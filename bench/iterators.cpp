// SPDX-License-Identifier: MIT
// Compiled with -DITERATORS=plain_iterators, and with -DITERATORS=retpoline_iterators and the compiler's retpoline option.
#include "iterators.hpp"

#include <dynfunc/grace_period.hpp>

namespace bench {
namespace {

[[gnu::always_inline]] inline void call_all(const Listener* const* list, std::uint64_t key, std::uint64_t bytes) {
    for (const Listener* each = __atomic_load_n(list, __ATOMIC_ACQUIRE); each->function != nullptr; ++each)
        each->function(key, bytes, each->data);
}

[[gnu::noinline]] void bare(std::uint64_t n, const Listener* const* list) {
    for (std::uint64_t i = 0; i < n; ++i) call_all(list, i, n);
}

[[gnu::noinline]] void guarded(std::uint64_t n, const Listener* const* list) {
    for (std::uint64_t i = 0; i < n; ++i)
        if (__atomic_load_n(&iterator_switch, __ATOMIC_RELAXED) != 0) [[unlikely]] {
            const dynfunc::ReadSection section;
            call_all(list, i, n);
        }
}

}  // namespace

const IteratorLoops ITERATORS = {&bare, &guarded};

}  // namespace bench
