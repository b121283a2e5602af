// SPDX-License-Identifier: MIT
// What the files of the program and its library share. Everything that is called here adds up numbers, so that the same numbers
// come out however a call gets to its target.
#pragma once

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/tracepoint.hpp>

#define EXPORTED [[gnu::visibility("default")]]

// Keeps a function apart, so that what is in it is compiled once.
#if defined(__clang__)
#define ONCE [[gnu::noinline, gnu::used]]
#else
#define ONCE [[gnu::noinline, gnu::noclone, gnu::used]]
#endif

#pragma GCC visibility push(default)
namespace sites {

struct Thrown {
    int value;
};

DYNFUNC_DECLARE(step, int(int));       // the program's; called by every file
DYNFUNC_DECLARE(note, void(int));      // without a result
DYNFUNC_DECLARE(may_throw, int(int));  // throws what is odd, in one of its forms
DYNFUNC_DECLARE(quiet, int(int) noexcept);
DYNFUNC_DECLARE(constant, int(int));     // never retargeted
DYNFUNC_DECLARE(linked_step, int(int));  // the library's
DYNFUNC_TRACEPOINT_DECLARE(event, void(int& heard, int n));
DYNFUNC_TRACEPOINT_DECLARE(linked_event, void(int& heard, int n));

extern int noted;  // what note() was told

}  // namespace sites
#pragma GCC visibility pop

struct Results {
    int values[96];
    int count = 0;
    void add(int value) { values[count++] = value; }
};

void add_flow(Results& results);                // flow.cpp
void add_planted(Results& results);             // planted.cpp
EXPORTED void add_linked(Results& results);     // linked.cpp
EXPORTED int (*function_of_library())(int);     // linked.cpp: a target that lies there
bool are_planted_bytes_unchanged();             // planted.cpp
EXPORTED bool are_linked_bytes_unchanged();     // linked.cpp
extern const int constructed, constructed_too;  // by constructors

// Two files have each of these; the linker keeps one.
[[gnu::noinline]] inline int inline_caller(int x) { return sites::step(x) * 2 + sites::step(x + 1); }

template <class T, int added>
[[gnu::noinline]] T template_caller(T x) {
    T sum = 0;
    for (int i = 0; i < 3; ++i) sum += static_cast<T>(sites::step(static_cast<int>(x) + i)) + added;
    return sum;
}
