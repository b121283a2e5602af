// SPDX-License-Identifier: MIT
// The call site of a build that patches nothing, in a build that may patch: this file alone takes the generic site. Its tag is
// named nowhere else, so no other file instantiates the same templates differently.
#include <dynfunc/detail/config.hpp>
#undef DYNFUNC_GENERIC_SITES
#define DYNFUNC_GENERIC_SITES 1
#include <dynfunc/dynfunc.hpp>

#include "callees.hpp"
#include "dispatch_loops.hpp"

namespace bench {

DYNFUNC(generic_call, int(int), &callee_0);

[[gnu::noinline]] void generic_loop(std::uint64_t n) {
    chain(n, [](int x) { return generic_call(x); });
}

}  // namespace bench
