// SPDX-License-Identifier: MIT
#pragma once

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

namespace host {
#pragma GCC visibility push(default)
DYNFUNC_DECLARE(function, int(int));
DYNFUNC_STATIC_KEY_DECLARE(key);
DYNFUNC_TRACEPOINT_DECLARE(event, void(int value));
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

    bool (*likely)();
    bool (*unlikely)();
    void (*fire_own)(int);
    void (*fire_host)(int);
    dynfunc::Result<dynfunc::Subscription> (*attach_to_own)(void (*)(int));
    bool (*attach_own_to_host)(int* counts);  // the plug-in keeps the subscription
    dynfunc::Result<dynfunc::Subscription> (*attach_own_object_to_host)(std::shared_ptr<int>);
    dynfunc::Result<dynfunc::PatternSubscription> (*subscribe_to_host)(std::shared_ptr<int>);
    bool* enabled_in_constructor;
};
}  // namespace plugin
