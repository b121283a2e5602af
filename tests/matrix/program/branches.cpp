// SPDX-License-Identifier: MIT
// Static keys and tracepoints: every site goes the way of its key, in each file, and is patched where this process patches.
//
// Results alone do not show a record that a linker dropped: its site stays as linked, loads the key and is right. So keys are
// also changed behind the library's back: then a site that is patched goes on as before, and one that is not follows.
#include "branches.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include <dynfunc/introspect.hpp>

#include "check.hpp"

namespace {

using dynfunc::Subscription;
using dynfunc::detail::BranchKey;
using dynfunc::detail::Tables;

bool is_patching() { return !DYNFUNC_GENERIC_SITES && dynfunc::capabilities().form == dynfunc::Form::patched; }

BranchKey& branch_of(auto& key) { return reinterpret_cast<dynfunc::detail::StaticKeyData&>(key).branch; }

struct Own {};
constexpr FilePlaces own_places = places_of_file<1, Own>();

struct File {
    const char* name;
    const FilePlaces* places;
};

std::vector<File> files_of_program() {
    return {{"branches.cpp", &own_places}, {"branches_define.cpp", &other_file_places()}, {"linked.cpp", &library_places()}};
}

// Everything at `which`: `weight` is what the callbacks of an event add.
void expect(std::span<const File> files, Places FilePlaces::*which, bool enabled, int weight = 0) {
    for (const File& file : files) {
        for (const Place& place : file.places->*which) {
            const Seen seen = place.run();
            const Seen expected = enabled ? Seen{place.sites, weight * place.sites} : Seen{};
            if (seen != expected)
                std::printf("%s: %s: %d of %d sites went, and %d was heard, not %d\n", file.name, place.name, seen.went,
                            place.sites, seen.heard, expected.heard);
            CHECK(seen == expected);
        }
    }
}

// The same, and again while the key says otherwise than the library wrote.
void expect_patched(std::span<const File> files, Places FilePlaces::*which, BranchKey& key, bool enabled, int weight = 0) {
    CHECK((key.enabled != 0) == enabled);
    expect(files, which, enabled, weight);
    __atomic_store_n(&key.enabled, enabled ? 0 : 1, __ATOMIC_SEQ_CST);
    expect(files, which, enabled == is_patching(), weight);
    __atomic_store_n(&key.enabled, enabled ? 1 : 0, __ATOMIC_SEQ_CST);
}

void check_keys(std::span<const File> files) {
    for (const bool on : {true, false, false, true}) {
        CHECK(dynfunc::update_all({keys::starts_true.to(on), keys::starts_false.to(!on), keys::linked.to(on)}));
        expect_patched(files, &FilePlaces::starts_true, branch_of(keys::starts_true), on);
        expect_patched(files, &FilePlaces::starts_false, branch_of(keys::starts_false), !on);
        expect_patched(files, &FilePlaces::linked_key, branch_of(keys::linked), on);
    }
}

void add_one(int& heard, int n) { heard += n; }
void add_data(int& heard, int n, void* data) { heard += *static_cast<int*>(data) * n; }

// As detach(), but the place stays, for another one.
void end(Subscription& subscription) {
    CHECK(subscription.detach());
    CHECK(!subscription.is_attached());
}

// One, two, three callbacks and back, of each kind.
void check_event(std::span<const File> files, auto& event, Places FilePlaces::*which) {
    int hundred = 100;
    const auto expect_all = [&](int weight) { expect_patched(files, which, event.key().branch, weight != 0, weight); };
    expect_all(0);
    auto first = event.attach(&add_one, {.static_lifetime = true});
    CHECK(first);
    expect_all(1);
    auto second = event.attach([&hundred](int& heard, int n) { heard += 10 * n * (hundred == 100); });
    CHECK(second);
    expect_all(11);
    auto third = event.attach(&add_data, &hundred, {.priority = 1, .count_hits = true});
    CHECK(third);
    expect_all(111);
    CHECK(third && third->hits() > 0);
    if (first) end(*first);
    expect_all(110);
    if (second) end(*second);
    expect_all(100);
    if (third) end(*third);
    expect_all(0);
}

int not_to_be_called = 0;

// The trampoline between site and callback: patched, it does not ask the key either.
void check_outer_trampolines(std::span<const File> files) {
    if (!is_patching()) return;
    auto attached = events::step.attach(&add_one, {.static_lifetime = true});
    CHECK(attached);
    auto& target = events::step.key().outer.target;
    void* const right = std::exchange(target, reinterpret_cast<void*>(+[](int&, int) { ++not_to_be_called; }));
    expect(files, &FilePlaces::step, true, 1);
    CHECK(not_to_be_called == 0);
    target = right;
    if (attached) end(*attached);
}

// Entries of section dynfunc_branches, without the empty one that comes with the registrar.
std::size_t sites_in(const Tables& tables) {
    std::size_t sites = 0;
    for (const auto* record = tables.branches; record != tables.branches_end; ++record) sites += record->site != 0;
    return sites;
}

// Each site of each file is known to the library, and patched.
void check_counts(std::span<const Tables* const> all) {
    std::size_t expected = 0, sites = 0, patched = 0;
    for (const Tables* tables : all) expected += sites_in(*tables);
    const auto count = [&](const dynfunc::SiteCounts& counts) {
        sites += counts.sites;
        patched += counts.patched;
    };
    for (const auto& key : dynfunc::static_keys()) count(key.branches);
    for (const auto& event : dynfunc::tracepoints()) count(event.branches);
    if (sites != expected) std::printf("%zu sites are known, there are %zu records\n", sites, expected);
    CHECK(sites == expected);
    CHECK(patched == (is_patching() ? expected : 0));
}

void check_same_names() {
    const auto run = [] {
        Seen seen{static_branch_unlikely(left::same_key) ? 1 : 0, 0};
        seen.went += static_branch_likely(right::same_key) ? 10 : 0;
        DYNFUNC_TRACE(left::same_event, seen.heard, 1);
        DYNFUNC_TRACE(right::same_event, seen.heard, 10);
        return seen;
    };
    CHECK(run() == Seen{10, 0});
    CHECK(dynfunc::update_all({left::same_key.to(true), right::same_key.to(false)}));
    CHECK(run() == Seen{1, 0});
    auto attached = dynfunc::attach_all(right::same_event.attachment(&add_one), left::same_event.attachment(&add_one));
    CHECK(attached && attached->size() == 2);
    CHECK(run() == Seen{1, 11});
    if (attached) end(attached->front());
    CHECK(run() == Seen{1, 1});
}

void check_list() {
    for (const char* name : {"keys::starts_true", "keys::starts_false", "keys::linked", "keys::untouched", "left::same_key"})
        CHECK(dynfunc::find_static_key(name).has_value());
    for (const char* name : {"events::step", "events::linked", "events::untouched", "right::same_event"})
        CHECK(dynfunc::find_tracepoint(name).has_value());
}

template <class F>
F* symbol(void* object, const char* name) {
    return reinterpret_cast<F*>(dlsym(object, name));
}

void check_loaded_plugin(void* object, std::vector<File> files) {
    files.push_back({"plugin.cpp", symbol<const FilePlaces*()>(object, "plugin_places")()});
    const Early& early = *symbol<const Early*()>(object, "plugin_early")();
    for (const EarlySeen& seen : {early.first, early.constructed}) {
        CHECK(seen.starts_true == Seen{});
        CHECK(seen.starts_false == Seen{1, 0});
        CHECK(seen.step == Seen{1, 1});
    }
    expect_patched(files, &FilePlaces::starts_true, branch_of(keys::starts_true), false);
    expect_patched(files, &FilePlaces::starts_false, branch_of(keys::starts_false), true);
    expect_patched(files, &FilePlaces::step, events::step.key().branch, true, 1);
    check_event(files, events::linked, &FilePlaces::linked_event);
    check_keys(files);

    auto* const run = symbol<void(Seen&)>(object, "plugin_run");
    Seen seen;
    CHECK(symbol<bool(bool)>(object, "plugin_set_key")(true));
    run(seen);
    CHECK(seen == Seen{4 + 3, 0});  // the pattern listens
    CHECK(symbol<bool(bool)>(object, "plugin_set_key")(false));
    run(seen = {});
    CHECK(seen == Seen{3, 0});

    const Tables* tables[] = {&dynfunc::detail::dso_tables, &library_tables(),
                              symbol<const Tables*()>(object, "plugin_tables")()};
    check_counts(tables);
    std::printf("branch sites: %zu + %zu + %zu\n", sites_in(*tables[0]), sites_in(*tables[1]), sites_in(*tables[2]));
}

void check_round(const char* path) {
    const auto files = files_of_program();
    int from_pattern = 0;
    auto pattern = dynfunc::subscribe(
        "plugin::*", [&from_pattern](const dynfunc::TraceEvent& event) { from_pattern += event.get<int>(1).value_or(1000); });
    auto listener = events::step.attach(&add_one);
    CHECK(pattern && listener);
    CHECK(dynfunc::update_all({keys::starts_true.to(false), keys::starts_false.to(true)}));

    void* const object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) std::printf("%s\n", dlerror());
    CHECK(object != nullptr);
    if (object == nullptr) return;
    CHECK(from_pattern == 7);  // what its first constructor fired came before the library knew it
    CHECK(pattern && pattern->size() == 1);
    check_loaded_plugin(object, files);

    Subscription on_plugin, of_plugin;
    auto* const attach = symbol<bool(void (*)(int&, int), Subscription&, Subscription&)>(object, "plugin_attach");
    CHECK(attach(&add_one, on_plugin, of_plugin));
    Seen seen;
    symbol<void(Seen&)>(object, "plugin_run")(seen);
    CHECK(seen == Seen{3, 3});
    expect_patched(files, &FilePlaces::step, events::step.key().branch, true, 11);
    CHECK(on_plugin.is_attached() && of_plugin.is_attached());

    // Its tracepoint, its callback and its sites leave with it.
    CHECK(dlclose(object) == 0);
    CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == nullptr);
    CHECK(!on_plugin.is_attached() && !of_plugin.is_attached());
    CHECK(!dynfunc::find_static_key("plugin::key") && !dynfunc::find_tracepoint("plugin::event"));
    CHECK(pattern && pattern->size() == 0);
    expect_patched(files, &FilePlaces::step, events::step.key().branch, true, 1);
    if (listener) end(*listener);
    expect_patched(files, &FilePlaces::step, events::step.key().branch, false);
    check_keys(files);
    const Tables* tables[] = {&dynfunc::detail::dso_tables, &library_tables()};
    check_counts(tables);
}

}  // namespace

void check_branches() {
    const auto files = files_of_program();
    check_early_branches();
    for (const EarlySeen& seen : {library_early().first, library_early().constructed}) {
        CHECK(seen.starts_true == Seen{1, 0});
        CHECK(seen.starts_false == Seen{});
        CHECK(seen.step == Seen{});
    }
    expect_patched(files, &FilePlaces::starts_true, branch_of(keys::starts_true), true);
    expect_patched(files, &FilePlaces::starts_false, branch_of(keys::starts_false), false);
    expect_patched(files, &FilePlaces::linked_key, branch_of(keys::linked), true);
    check_keys(files);
    check_event(files, events::step, &FilePlaces::step);
    check_event(files, events::linked, &FilePlaces::linked_event);
    check_outer_trampolines(files);
    check_same_names();
    check_list();
    const Tables* tables[] = {&dynfunc::detail::dso_tables, &library_tables()};
    check_counts(tables);
}

void check_plugin_branches(const char* path) {
    for (int round = 0; round < 3; ++round) check_round(path);
}
