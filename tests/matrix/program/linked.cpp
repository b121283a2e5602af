// SPDX-License-Identifier: MIT
// A shared library that the program is linked with: it exports a dynamic function, a static key and a tracepoint that the
// program uses and changes, and uses the program's. Its constructors run before the library knows the program.
#include "branches.hpp"
#include "functions.hpp"

static int add_40(int x) { return x + 40; }

DYNFUNC(linked_step, int(int), &add_40);

int library_calls_linked_step(int x) { return linked_step(x); }

namespace keys {
DYNFUNC_STATIC_KEY_TRUE(linked);
}
namespace events {
DYNFUNC_TRACEPOINT(linked, void(int& heard, int n));
}

namespace {
struct Own {};
}  // namespace

static constexpr FilePlaces places = places_of_file<3, Own>();
static constinit Early seen;

static void see_first() { seen.first = see_early<Own>(); }
[[gnu::used, gnu::section(".init_array.00050")]] static void (*first_entry)() = &see_first;
[[gnu::constructor]] static void see_constructed() { seen.constructed = see_early<Own>(); }

const FilePlaces& library_places() { return places; }
const Early& library_early() { return seen; }
const dynfunc::detail::Tables& library_tables() { return dynfunc::detail::dso_tables; }
