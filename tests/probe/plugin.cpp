// SPDX-License-Identifier: MIT
// An object that is unloaded while it is probed.
extern "C" int plugin_function(int x) { return x + 10; }
