// SPDX-License-Identifier: MIT
// The program that is built in every way that the matrix lists. Prints how many branch sites it, its library and its plug-in
// have, each time that the plug-in is loaded; then OK, or each check that does not hold.
//
//     program PLUGIN      PLUGIN: the shared object made from plugin.cpp
#include <dlfcn.h>

#include <string_view>

#include <dynfunc/introspect.hpp>

#include "check.hpp"
#include "codec.hpp"
#include "functions.hpp"

namespace {

int add_5(int x) { return x + 5; }
int times_4(int x) { return x * 4; }

void check_files() {
    CHECK(shared_step(1) == 2);
    CHECK(other_file_step(1) == 2);
    CHECK(shared_step.retarget(&add_5));
    CHECK(shared_step(1) == 6);
    CHECK(other_file_step(1) == 6);
    CHECK(inline_caller(1) == 12);
    CHECK(other_file_inline(1) == 12);
    CHECK(template_caller<10>(1) == 16);
    CHECK(other_file_template(1) == 106);
    CHECK(shared_step.target() == &add_5);

    int (*const kept)(int) = shared_step;  // of a trampoline: reaches the target of the moment; else: of the target
    CHECK(kept(1) == 6);
    CHECK(shared_step.retarget(&times_4));
    CHECK(shared_step(1) == 4);
    CHECK(kept(1) == (DYNFUNC_GENERIC_SITES ? 6 : 4));

    CHECK(left::same_name(2) == 3);
    CHECK(right::same_name(2) == 6);
    CHECK(left::same_name.retarget(&times_4));
    CHECK(left::same_name(2) == 8);
    CHECK(right::same_name(2) == 6);
}

void check_statics() {
    CHECK(Codec::run(2) == 6);
    CHECK(Codec::choose(&add_5));
    CHECK(Codec::run(2) == 7);
    CHECK(Codec::choose(nullptr));
    CHECK(Codec::run(2) == 0);
    CHECK(Codec::encode(2) == 14);
    CHECK(Codec::encode.retarget(&add_5));
    CHECK(Codec::encode(2) == 7);
    CHECK(Meter<Metre>::read(2) == 4);
    CHECK(Metre::sensor.retarget(&times_4));
    CHECK(Meter<Metre>::read(2) == 8);
}

void check_linked_library() {
    CHECK(linked_step(1) == 41);
    CHECK(library_calls_linked_step(1) == 41);
    CHECK(linked_step.retarget(&times_4));
    CHECK(linked_step(1) == 4);
    CHECK(library_calls_linked_step(1) == 4);

    // Without -fPIC the linker copies the library's object into the program, and the copy is the one that both use.
    const auto listed = dynfunc::find_function("linked_step");
    CHECK(listed && listed->target == dynfunc::Address::of(&times_4));
    CHECK(listed && (DYNFUNC_GENERIC_SITES || listed->trampolines.size() == 2));

    CHECK(linked_step.retarget(nullptr));
    CHECK(linked_step(1) == 0);
    CHECK(library_calls_linked_step(1) == 0);
}

bool listed(std::string_view name) { return dynfunc::find_function(name).has_value(); }

void check_list() {
    for (const char* name :
         {"shared_step", "left::same_name", "right::same_name", "Codec::decode", "Metre::sensor", "untouched", "linked_step"}) {
        const bool found = listed(name);
        if (!found) std::printf("%s is not listed\n", name);
        CHECK(found);
    }
    const bool has_signatures = check_signatures != nullptr;
    CHECK(listed("count::p16") == has_signatures && listed("kinds::move_only") == has_signatures);
}

template <class F>
F* symbol(void* object, const char* name) {
    return reinterpret_cast<F*>(dlsym(object, name));
}

void check_plugin(const char* path) {
    for (int round = 0; round < 3; ++round) {
        void* const object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (object == nullptr) {
            std::printf("%s\n", dlerror());
            CHECK(object != nullptr);
            return;
        }
        auto* const own = symbol<int(int)>(object, "plugin_own");
        auto* const shared = symbol<int(int)>(object, "plugin_shared");
        CHECK(own(10) == 5);
        CHECK(symbol<bool()>(object, "plugin_retarget_own")());
        CHECK(own(10) == 100);
        CHECK(shared_step.retarget(&times_4));
        CHECK(shared(1) == 8);
        CHECK(shared_step.retarget(&add_5));
        CHECK(shared(1) == 12);
        CHECK(symbol<bool()>(object, "plugin_retarget_shared")());
        CHECK(shared(3) == 18);
        CHECK(shared_step(3) == 9);
        CHECK(listed("plugin_step"));

        // The target leaves with the plug-in: back to the default.
        CHECK(dlclose(object) == 0);
        CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == nullptr);
        CHECK(shared_step(3) == 4);
        CHECK(!listed("plugin_step"));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: program PLUGIN\n", stderr);
        return 2;
    }
    check_early_results();
    check_files();
    check_statics();
    check_linked_library();
    if (check_signatures != nullptr) check_signatures();
    check_list();
    check_plugin(argv[1]);
    check_branches();
    check_plugin_branches(argv[1]);
    if (matrix::failed_checks == 0) std::puts("OK");
    return matrix::failed_checks == 0 ? 0 : 1;
}
