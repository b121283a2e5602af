// SPDX-License-Identifier: MIT
#include <functional>

#include "callees.hpp"
#include "dispatch_loops.hpp"

namespace bench {

std::function<Callee> callee_function = &callee_0;  // not static: the compiler must not know what it holds

[[gnu::noinline]] void std_function_loop(std::uint64_t n) {
    chain(n, [](int x) { return callee_function(x); });
}

}  // namespace bench
