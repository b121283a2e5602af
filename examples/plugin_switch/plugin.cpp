// SPDX-License-Identifier: MIT
// One plug-in, built twice: -DPLUGIN_VERSION=1 and 2.
#include "plugin.hpp"

#include <dynfunc/dynfunc.hpp>

// It has no dynamic function of its own. This has it noticed when it leaves while it is still some function's target.
DYNFUNC_GUARD_DSO();

extern "C" [[gnu::visibility("default")]] Answer plugin_answer(long question) {
    return {.version = PLUGIN_VERSION, .value = question * PLUGIN_VERSION};
}
