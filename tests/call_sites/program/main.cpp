// SPDX-License-Identifier: MIT
// Calls, retargets, calls again; and prints at several moments what came out and what the library says about call sites:
//
//     now MOMENT
//     results NUMBER...                                  of all calls
//     base PATH ADDRESS                                  of the first segment, by dl_iterate_phdr(); `-`: the executable
//     how REASON                                         of call_site_patching()
//     object PATH BEGIN READ FOUND NO_SITES REASON       of objects()
//     function NAME TARGET FOUND PATCHED LEFT            of functions(); LEFT: sum over the reasons
//     tracepoint NAME - FOUND PATCHED LEFT               of tracepoints()
//     site FIELD CALLEE PATCHED LEADS_TO REASON          of call_sites(); LEADS_TO: read from the code itself
//
// Numbers but results are hexadecimal. With an argument, a folder, it writes there what its executable segments hold.
#include <link.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include <dynfunc/call_sites.hpp>
#include <dynfunc/introspect.hpp>

#include <leads_to.hpp>  // of the machine

#include "calls.hpp"

namespace {

int add_1(int x) { return x + 1; }
int add_2(int x) { return x + 2; }
int times_3(int x) { return x * 3; }
int throws_odd(int x) { return x % 2 != 0 ? throw sites::Thrown{x} : x; }
int throws_always(int x) { throw sites::Thrown{x + 100}; }
int negate(int x) noexcept { return -x; }
int half(int x) noexcept { return x / 2; }
void sum_up(int x) { sites::noted += x; }
void sum_down(int x) { sites::noted -= 2 * x; }
void hear(int& heard, int n) { heard += n; }
void hear_twice(int& heard, int n) { heard += 2 * n; }

}  // namespace

namespace sites {
int noted = 0;
DYNFUNC(step, int(int), &add_1);
DYNFUNC(note, void(int), &sum_up);
DYNFUNC(may_throw, int(int), &throws_odd);
DYNFUNC(quiet, int(int) noexcept, &negate);
DYNFUNC(constant, int(int), &add_2);
DYNFUNC_TRACEPOINT(event, void(int& heard, int n));
}  // namespace sites

// A second file with the same inline functions and a constructor.
const int constructed_too = inline_caller(4) + template_caller<int, 5>(6);

namespace {

int failures = 0;

void need(bool good, const char* what) {
    if (good) return;
    ++failures;
    std::printf("failed: %s\n", what);
}

void print_results() {
    sites::noted = 0;
    Results results;
    add_flow(results);
    add_planted(results);
    add_linked(results);
    results.add(constructed_too);
    results.add(sites::noted);
    std::printf("results");
    for (int i = 0; i < results.count; ++i) std::printf(" %d", results.values[i]);
    std::printf("\n");
    need(are_planted_bytes_unchanged(), "planted bytes of the program unchanged");
    need(are_linked_bytes_unchanged(), "planted bytes of the library unchanged");
}

void print_counts(const char* kind, const std::string& name, dynfunc::Address target, const dynfunc::CallSiteCounts& counts) {
    std::size_t left = 0;
    for (const auto& each : counts.left) left += each.sites;
    std::printf("%s %s %zx %zx %zx %zx\n", kind, name.c_str(), target.value, counts.found, counts.patched, left);
}

int print_base(dl_phdr_info* object, std::size_t, void*) {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_LOAD) continue;
        std::printf("base %s %zx\n", *object->dlpi_name == '\0' ? "-" : object->dlpi_name,
                    std::size_t{object->dlpi_addr + segment.p_vaddr});
        break;
    }
    return 0;
}

void print(const char* moment) {
    std::printf("now %s\n", moment);
    print_results();
    dl_iterate_phdr(&print_base, nullptr);
    const auto how = dynfunc::call_site_patching();
    std::printf("how %s\n", how.reason);
    for (const auto& object : dynfunc::objects())
        std::printf("object %s %zx %zx %zx %zx %s\n", object.path.empty() ? "-" : object.path.c_str(),
                    object.mapped.begin.value, object.text_bytes, object.call_sites, object.no_call_sites, object.reason);
    for (const auto& function : dynfunc::functions())
        print_counts("function", function.name, function.target, function.call_sites);
    for (const auto& tracepoint : dynfunc::tracepoints())
        print_counts("tracepoint", tracepoint.name, {}, tracepoint.call_sites);
    for (const auto& site : dynfunc::call_sites()) {
        std::printf("site %zx %s %d %zx %s\n", site.field.value, site.callee.c_str(), site.patched, leads_to(site.field).value,
                    site.reason);
    }
}

// As FOLDER/NAME.ADDRESS, ADDRESS as the file of the object numbers it.
int write_text(dl_phdr_info* object, std::size_t, void* folder) {
    const std::string path = object->dlpi_name;
    if (!path.empty() && path.find("liblinked.so") == path.npos) return 0;
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
        char name[32];
        std::snprintf(name, sizeof name, "%s.%zx", path.empty() ? "program" : "liblinked.so", std::size_t{segment.p_vaddr});
        std::FILE* file = std::fopen((std::string(static_cast<const char*>(folder)) + '/' + name).c_str(), "wb");
        need(file != nullptr && std::fwrite(reinterpret_cast<const void*>(object->dlpi_addr + segment.p_vaddr), 1,
                                            segment.p_filesz, file) == segment.p_filesz,
             "writing text to a file");
        if (file != nullptr) std::fclose(file);
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    using namespace sites;
    print("start");
    need(dynfunc::retarget_all({step.to(&times_3), note.to(&sum_down), may_throw.to(&throws_always), quiet.to(&half),
                                linked_step.to(function_of_library())})
             .has_value(),
         "retargeting");
    {
        auto first = event.attach(&hear);
        auto second = event.attach([](int& heard, int n) { heard += n * n; });
        auto third = linked_event.attach(&hear_twice, {.static_lifetime = true});
        need(first && second && third, "attaching");
        print("retargeted");
        if (count > 1) dl_iterate_phdr(&write_text, arguments[1]);
        need(second && second->detach(), "detaching");
        need(note.retarget(nullptr).has_value() && step.retarget(&add_2).has_value(), "retargeting to null");
        print("null");
    }
    need(dynfunc::retarget_all(
             {step.to(&add_1), note.to(&sum_up), may_throw.to(&throws_odd), quiet.to(&negate), linked_step.to(&times_3)})
             .has_value(),
         "retargeting back");
    print("back");
    need(dynfunc::set_call_sites(dynfunc::CallSites::always).has_value(), "always");
    print("always");
    need(dynfunc::set_call_sites(dynfunc::CallSites::never).has_value(), "never");
    print("never");
    std::puts(failures == 0 ? "OK" : "FAILED");
    return failures != 0;
}
