// SPDX-License-Identifier: MIT
#pragma once

#include <dynfunc/dynfunc.hpp>

namespace host {
#pragma GCC visibility push(default)
DYNFUNC_DECLARE(function, int(int));
#pragma GCC visibility pop
}  // namespace host

namespace plugin {
struct Interface {
    int (*call_own)(int);
    int (*call_host)(int);
    bool (*retarget_own)(int (*)(int));
    int (*target)(int);
    bool (*retarget_host_to_plugin)();
    int* in_constructor;
};
}  // namespace plugin
