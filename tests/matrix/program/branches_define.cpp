// SPDX-License-Identifier: MIT
// Defines the program's static keys and tracepoints, has sites of them in a second file, and changes some before main.
#include <utility>

#include "branches.hpp"
#include "check.hpp"

namespace keys {
DYNFUNC_STATIC_KEY_TRUE(starts_true);
DYNFUNC_STATIC_KEY_FALSE(starts_false);
DYNFUNC_STATIC_KEY_FALSE(early);
DYNFUNC_STATIC_KEY_TRUE(untouched);  // named by nobody: must neither vanish nor do harm
}  // namespace keys
namespace events {
DYNFUNC_TRACEPOINT(step, void(int& heard, int n));
DYNFUNC_TRACEPOINT(early, void(int& heard, int n));
DYNFUNC_TRACEPOINT(untouched, void());
}  // namespace events

namespace left {
DYNFUNC_STATIC_KEY_FALSE(same_key);
DYNFUNC_TRACEPOINT(same_event, void(int& heard, int n));
}  // namespace left
namespace right {
DYNFUNC_STATIC_KEY_TRUE(same_key);
DYNFUNC_TRACEPOINT(same_event, void(int& heard, int n));
}  // namespace right

namespace {
struct Own {};
}  // namespace

const FilePlaces& other_file_places() {
    static constexpr FilePlaces places = places_of_file<2, Own>();
    return places;
}

// Called by nobody, and in no table of exported names: a linker that collects garbage drops it, and its records with it.
[[gnu::visibility("hidden")]] int nobody_calls(int n) {
    DYNFUNC_TRACE(events::step, n, 1);
    return static_branch_unlikely(keys::starts_false) ? n : 0;
}

namespace {

constinit Early seen;

void add_early(int& heard, int n) { heard += n; }

// Outlives main; made by the first constructor.
dynfunc::Subscription& early_subscription() {
    static dynfunc::Subscription subscription;
    return subscription;
}

[[gnu::noinline]] Seen run_early() {
    Seen all{static_branch_unlikely(keys::early) ? 1 : 0, 0};
    DYNFUNC_TRACE(events::early, all.heard, ++all.went);
    return all;
}

struct Changed {
    Seen before, after, constructed;
    bool done = false;
};
constinit Changed changed;

// Before the library knows this executable.
void change_early() {
    seen.first = see_early<Own>();
    changed.before = run_early();
    auto attached = events::early.attach(&add_early);
    changed.done = keys::early.enable() && attached;
    if (attached) early_subscription() = std::move(*attached);
    changed.after = run_early();
}
[[gnu::used, gnu::section(".init_array.00050")]] void (*early_entry)() = &change_early;

const bool constructed = [] {
    seen.constructed = see_early<Own>();
    changed.constructed = run_early();
    return true;
}();

}  // namespace

void check_early_branches() {
    CHECK(constructed);
    for (const EarlySeen& early : {seen.first, seen.constructed}) {
        CHECK(early.starts_true == Seen{1, 0});
        CHECK(early.starts_false == Seen{});
        CHECK(early.step == Seen{});
    }
    CHECK(changed.done);
    CHECK(changed.before == Seen{});
    CHECK(changed.after == Seen{2, 2});
    CHECK(changed.constructed == Seen{2, 2});
    CHECK(run_early() == Seen{2, 2});
    CHECK(early_subscription().detach());
    CHECK(keys::early.disable());
    CHECK(run_early() == Seen{});
}
