// SPDX-License-Identifier: MIT
// The static keys and tracepoints that the files of the program, its library and its plug-in share, and a site of each in every
// kind of place that a compiler or linker treats in a way of its own.
#pragma once

#include <array>
#include <cstddef>

#include <dynfunc/static_key.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

#include "functions.hpp"

#pragma GCC visibility push(default)
namespace keys {
DYNFUNC_STATIC_KEY_DECLARE(starts_true);   // the program's
DYNFUNC_STATIC_KEY_DECLARE(starts_false);  // the program's
DYNFUNC_STATIC_KEY_DECLARE(linked);        // that of the library it is linked with; starts enabled
}  // namespace keys
namespace events {
DYNFUNC_TRACEPOINT_DECLARE(step, void(int& heard, int n));    // the program's
DYNFUNC_TRACEPOINT_DECLARE(linked, void(int& heard, int n));  // the library's
}  // namespace events
#pragma GCC visibility pop

namespace left {
DYNFUNC_STATIC_KEY_DECLARE(same_key);
DYNFUNC_TRACEPOINT_DECLARE(same_event, void(int& heard, int n));
}  // namespace left
namespace right {
DYNFUNC_STATIC_KEY_DECLARE(same_key);
DYNFUNC_TRACEPOINT_DECLARE(same_event, void(int& heard, int n));
}  // namespace right

// What a run of some sites has shown: how many went the enabled way (an event: evaluated its arguments), and the sum of what
// callbacks added.
struct Seen {
    int went = 0, heard = 0;
    Seen& operator+=(const Seen& other) {
        went += other.went;
        heard += other.heard;
        return *this;
    }
    friend bool operator==(const Seen&, const Seen&) = default;
};

struct Place {
    const char* name;
    Seen (*run)();
    int sites;
};
struct Places {
    std::array<Place, 15> list;
    std::size_t size;

    constexpr void add(const Place& place) { list[size++] = place; }
    constexpr const Place* begin() const { return list.data(); }
    constexpr const Place* end() const { return list.data() + size; }
};

// Who has the sites below, which decides what the linker makes of them.
template <int file>
struct Common {};  // 0: every file, and the linker keeps one of several; otherwise one file, in a section group all the same
// A type in an unnamed namespace: one file, outside all groups. Linkers that collect garbage treat the two in different ways.

// Sites of a key.
template <auto& key, class Owner>
struct KeySites {
    static Seen unlikely() { return {static_branch_unlikely(key) ? 1 : 0, 0}; }
    static Seen likely() { return {static_branch_likely(key) ? 1 : 0, 0}; }
    static Seen in_loop() {
        int turns = 0;
        for (int i = 0; i < 10; ++i)
            if (static_branch_unlikely(key)) ++turns;
        return {turns == 10 ? 1 : -turns, 0};
    }
    static Seen in_lambda() {
        const auto lambda = [](int x) { return static_branch_likely(key) ? x : 0; };
        return {lambda(1), 0};
    }
    [[gnu::cold]] static Seen in_cold_code() { return {static_branch_unlikely(key) ? 1 : 0, 0}; }
    static Seen in_handler() {
        try {
            throw 1;
        } catch (int) {
            return likely();
        }
    }
    [[gnu::noinline]] static Seen inlined() {
        Seen all = unlikely();
        all += likely();
        all += in_loop();
        all += in_lambda();
        return all;
    }
};

template <auto& key, class Owner>
constexpr void add_key_places(Places& places) {
    using Sites = KeySites<key, Owner>;
    places.add({"unlikely", &Sites::unlikely, 1});
    places.add({"likely", &Sites::likely, 1});
    places.add({"in a loop", &Sites::in_loop, 1});
    places.add({"in a lambda", &Sites::in_lambda, 1});
    places.add({"in cold code", &Sites::in_cold_code, 1});
    places.add({"in a handler", &Sites::in_handler, 1});
    places.add({"inlined", &Sites::inlined, 4});
}

// Sites of a tracepoint, likewise.
template <auto& event, class Owner>
struct EventSites {
    static Seen plain() {
        Seen seen;
        DYNFUNC_TRACE(event, seen.heard, ++seen.went);
        return seen;
    }
    static Seen in_loop() {
        Seen seen;
        for (int i = 0; i < 10; ++i) DYNFUNC_TRACE(event, seen.heard, (++seen.went, i == 9 ? 1 : 0));
        return {seen.went == 10 ? 1 : -seen.went, seen.heard};
    }
    static Seen in_lambda() {
        const auto lambda = [](Seen& seen) { DYNFUNC_TRACE(event, seen.heard, ++seen.went); };
        Seen seen;
        lambda(seen);
        return seen;
    }
    [[gnu::cold]] static Seen in_cold_code() {
        Seen seen;
        DYNFUNC_TRACE(event, seen.heard, ++seen.went);
        return seen;
    }
    static Seen in_handler() {
        try {
            throw 1;
        } catch (int) {
            return plain();
        }
    }
    [[gnu::noinline]] static Seen inlined() {
        Seen all = plain();
        all += in_loop();
        all += in_lambda();
        return all;
    }
};

template <auto& event, class Owner>
constexpr void add_event_places(Places& places) {
    using Sites = EventSites<event, Owner>;
    places.add({"plain", &Sites::plain, 1});
    places.add({"in a loop", &Sites::in_loop, 1});
    places.add({"in a lambda", &Sites::in_lambda, 1});
    places.add({"in cold code", &Sites::in_cold_code, 1});
    places.add({"in a handler", &Sites::in_handler, 1});
    places.add({"inlined", &Sites::inlined, 3});
}

// Neither templates nor members: what most headers have.
inline Seen inline_key() { return {static_branch_unlikely(keys::starts_false) ? 1 : 0, 0}; }
inline Seen inline_event() {
    Seen seen;
    DYNFUNC_TRACE(events::step, seen.heard, ++seen.went);
    return seen;
}

// The sites of one file.
struct FilePlaces {
    Places starts_true, starts_false, linked_key, step, linked_event;
};

// `file`: from 1 on, another number in each file; `Own`: a type in its unnamed namespace.
template <int file, class Own>
constexpr FilePlaces places_of_file() {
    FilePlaces all{};
    add_key_places<keys::starts_true, Common<file>>(all.starts_true);
    add_key_places<keys::starts_false, Common<0>>(all.starts_false);
    add_key_places<keys::starts_false, Own>(all.starts_false);
    all.starts_false.add({"inline function", &inline_key, 1});
    add_key_places<keys::linked, Own>(all.linked_key);
    add_event_places<events::step, Common<0>>(all.step);
    add_event_places<events::step, Own>(all.step);
    all.step.add({"inline function", &inline_event, 1});
    add_event_places<events::linked, Common<file>>(all.linked_event);
    return all;
}

// What sites show before main, in two constructors of a file: one before and one after the library knows their executable or
// shared object (by its constructor of priority 101).
struct EarlySeen {
    Seen starts_true, starts_false, step;
};
template <class Owner>
EarlySeen see_early() {
    EarlySeen seen;
    seen.starts_true = {static_branch_likely(keys::starts_true) ? 1 : 0, 0};
    seen.starts_false = {static_branch_likely(keys::starts_false) ? 1 : 0, 0};
    DYNFUNC_TRACE(events::step, seen.step.heard, ++seen.step.went);
    return seen;
}
struct Early {
    EarlySeen first, constructed;
};

// branches_define.cpp: a second file of the program
const FilePlaces& other_file_places();
void check_early_branches();

// linked.cpp, in a shared library of its own
EXPORTED const FilePlaces& library_places();
EXPORTED const Early& library_early();
EXPORTED const dynfunc::detail::Tables& library_tables();
