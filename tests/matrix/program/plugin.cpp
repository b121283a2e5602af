// SPDX-License-Identifier: MIT
// A shared object that comes and goes: defines and uses a dynamic function, a static key and a tracepoint of its own, uses and
// changes the program's.
#include <utility>

#include "branches.hpp"
#include "functions.hpp"

static int half(int x) { return x / 2; }
static int square(int x) { return x * x; }

DYNFUNC(plugin_step, int(int), &half);

namespace plugin {
DYNFUNC_STATIC_KEY_FALSE(key);
DYNFUNC_TRACEPOINT(event, void(int& heard, int n));
}  // namespace plugin

namespace {
struct Own {};
}  // namespace

static constexpr FilePlaces places = places_of_file<4, Own>();
static constinit Early seen;
static constinit int heard_first = 0, heard_constructed = 0;

static void see_first() {
    seen.first = see_early<Own>();
    DYNFUNC_TRACE(plugin::event, heard_first, 5);
}
[[gnu::used, gnu::section(".init_array.00050")]] static void (*first_entry)() = &see_first;
[[gnu::constructor]] static void see_constructed() {
    seen.constructed = see_early<Own>();
    DYNFUNC_TRACE(plugin::event, heard_constructed, 7);
}

static void add_ten(int& heard, int n) { heard += 10 * n; }

extern "C" {

EXPORTED int plugin_own(int x) { return plugin_step(x); }
EXPORTED int plugin_shared(int x) { return inline_caller(x); }
EXPORTED bool plugin_retarget_own() { return plugin_step.retarget(&square).has_value(); }
EXPORTED bool plugin_retarget_shared() { return shared_step.retarget(&square).has_value(); }

EXPORTED const FilePlaces* plugin_places() { return &places; }
EXPORTED const Early* plugin_early() { return &seen; }
EXPORTED const dynfunc::detail::Tables* plugin_tables() { return &dynfunc::detail::dso_tables; }
EXPORTED bool plugin_set_key(bool enabled) { return dynfunc::update_all({plugin::key.to(enabled)}).has_value(); }
EXPORTED void plugin_run(Seen& into) {
    into += KeySites<plugin::key, Common<4>>::inlined();
    into += EventSites<plugin::event, Own>::inlined();
}
// Attaches the program's function to the plug-in's tracepoint, and the plug-in's to the program's.
EXPORTED bool plugin_attach(void (*function)(int&, int), dynfunc::Subscription& own, dynfunc::Subscription& programs) {
    auto first = plugin::event.attach(function);
    auto second = events::step.attach(&add_ten);
    if (!first || !second) return false;
    own = std::move(*first);
    programs = std::move(*second);
    return true;
}
}
