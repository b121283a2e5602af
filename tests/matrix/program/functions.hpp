// SPDX-License-Identifier: MIT
// The dynamic functions that the files of the program, its library and its plug-in share.
#pragma once

#include <dynfunc/dynfunc.hpp>

#define EXPORTED [[gnu::visibility("default")]]

#pragma GCC visibility push(default)
DYNFUNC_DECLARE(shared_step, int(int));  // the program's; called by every file
DYNFUNC_DECLARE(linked_step, int(int));  // that of the library it is linked with
#pragma GCC visibility pop

namespace left {
DYNFUNC_DECLARE(same_name, int(int));
}
namespace right {
DYNFUNC_DECLARE(same_name, int(int));
}

inline int inline_caller(int x) { return shared_step(x) * 2; }

template <int added>
int template_caller(int x) {
    return shared_step(x) + added;
}

// define.cpp
int other_file_step(int x);
int other_file_inline(int x);
int other_file_template(int x);
void check_early_results();

// branches.cpp
void check_branches();
void check_plugin_branches(const char* path);

// signatures.cpp, which some builds leave out
[[gnu::weak]] void check_signatures();

// linked.cpp, in a shared library of its own
EXPORTED int library_calls_linked_step(int x);
