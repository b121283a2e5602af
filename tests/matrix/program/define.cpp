// SPDX-License-Identifier: MIT
// Defines what functions.hpp declares, calls it from a second file, and uses it before main.
#include "check.hpp"
#include "codec.hpp"
#include "functions.hpp"

namespace {

int add_1(int x) { return x + 1; }
int add_2(int x) { return x + 2; }
int times_3(int x) { return x * 3; }
int negate(int x) { return -x; }

}  // namespace

DYNFUNC(shared_step, int(int), &add_1);

namespace left {
DYNFUNC(same_name, int(int), &add_1);
}
namespace right {
DYNFUNC(same_name, int(int), &times_3);
}

DYNFUNC_DEFINE_STATIC(Codec::decode, int(int), &times_3);
DYNFUNC_DEFINE_STATIC(Codec::encode, int(int), [](int x) { return x * 7; });
DYNFUNC_DEFINE_STATIC(Metre::sensor, int(int), &add_2);

DYNFUNC(earliest, int(int), &add_1);
DYNFUNC(before_main, int(int), &add_1);
DYNFUNC(untouched, int(int), nullptr);  // named by nobody: must neither vanish nor do harm

int other_file_step(int x) { return shared_step(x); }
int other_file_inline(int x) { return inline_caller(x); }
int other_file_template(int x) { return template_caller<100>(x); }

namespace {

struct Early {
    int first = -1, second = -1, third = -1;
    bool done = false;
};
constinit Early at_priority_50, in_constructor;

// Runs before the library knows this executable (priority 101).
void run_earliest() {
    at_priority_50.first = earliest(10);
    at_priority_50.done = earliest.retarget(&negate).has_value();
    at_priority_50.second = earliest(10);
}
[[gnu::used, gnu::section(".init_array.00050")]] void (*earliest_entry)() = &run_earliest;

const bool constructed = [] {
    in_constructor.first = before_main(10);
    in_constructor.done = before_main.retarget(&times_3).has_value();
    in_constructor.second = before_main(10);
    in_constructor.third = earliest(10);
    return true;
}();

}  // namespace

void check_early_results() {
    CHECK(constructed);
    CHECK(at_priority_50.first == 11);
    CHECK(at_priority_50.done);
    CHECK(at_priority_50.second == -10);
    CHECK(in_constructor.first == 11);
    CHECK(in_constructor.done);
    CHECK(in_constructor.second == 30);
    CHECK(in_constructor.third == -10);
    CHECK(earliest(4) == -4);
    CHECK(before_main(4) == 12);
    CHECK(earliest.target() == &negate);
    CHECK(earliest.retarget(&add_2));
    CHECK(earliest(4) == 6);
}
