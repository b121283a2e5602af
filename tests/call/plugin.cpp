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

DYNFUNC_TRACEPOINT(event, void(int value));
bool enabled_in_constructor = static_branch_unlikely(host::key);

bool likely() { return static_branch_likely(host::key); }
bool unlikely() { return static_branch_unlikely(host::key); }
void fire_own(int value) { DYNFUNC_TRACE(event, value); }
void fire_host(int value) { DYNFUNC_TRACE(host::event, value); }
dynfunc::Result<dynfunc::Subscription> attach_to_own(void (*callback)(int)) { return event.attach(callback); }

dynfunc::Subscription kept;
bool attach_own_to_host(int* counts) {
    auto attached = host::event.attach([counts](int) { ++*counts; });
    if (attached) kept = std::move(*attached);
    return kept.is_attached();
}
dynfunc::Result<dynfunc::Subscription> attach_own_object_to_host(std::shared_ptr<int> counts) {
    return host::event.attach([counts](int) { ++*counts; });
}

dynfunc::Result<dynfunc::PatternSubscription> subscribe_to_host(std::shared_ptr<int> counts) {
    return dynfunc::subscribe("host::*", [counts](const dynfunc::TraceEvent&) { ++*counts; });
}

// An event before main's code has seen the plug-in.
int fired_in_constructor = (fire_own(-1), 1);

extern "C" [[gnu::visibility("default")]] const Interface plugin_interface{&call_own,
                                                                           &call_host,
                                                                           &retarget_own,
                                                                           &ten_times,
                                                                           &retarget_host_to_plugin,
                                                                           &in_constructor,
                                                                           &likely,
                                                                           &unlikely,
                                                                           &fire_own,
                                                                           &fire_host,
                                                                           &attach_to_own,
                                                                           &attach_own_to_host,
                                                                           &attach_own_object_to_host,
                                                                           &subscribe_to_host,
                                                                           &enabled_in_constructor};

}  // namespace plugin
