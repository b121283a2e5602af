// SPDX-License-Identifier: MIT
// A shared object that comes and goes: it defines and calls a function of its own, calls and retargets one of the program's,
// and offers targets.
#include "plugin.hpp"

namespace plugin {

int ten_times(int x) { return 10 * x; }
DYNFUNC(own, int(int), &ten_times);

int call_own(int x) { return own(x); }
int call_host(int x) { return host::function(x); }
bool retarget_own(int (*target)(int)) { return own.retarget(target).has_value(); }
bool retarget_host_to_plugin() { return host::function.retarget(&ten_times).has_value(); }

// Runs before main's code sees the plug-in, and calls through trampolines that may not be announced yet.
int in_constructor = host::function(1) + own(1);

extern "C" [[gnu::visibility("default")]] const Interface plugin_interface{
    &call_own, &call_host, &retarget_own, &ten_times, &retarget_host_to_plugin, &in_constructor};

}  // namespace plugin
