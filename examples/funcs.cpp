// SPDX-License-Identifier: MIT
// Five dynamic functions with 0 to 4 parameters and three targets each, driven by lines on standard input.
//
//     $ printf 'func2\nfunc2 1\nfunc2\n' | funcs
//     func2: target 0 ran with (1, 2) and returned 20
//     func2: now target 1
//     func2: target 1 ran with (1, 2) and returned 21
//
// "list" shows all five, "help" the words; a line that makes no sense is answered on standard error and changes nothing.
#include <array>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

// The targets: they say themselves which of them ran, and with what.
template <int target>
int none() {
    std::printf("func0: target %d ran with ()", target);
    return target;
}
template <int target>
int one(int a) {
    std::printf("func1: target %d ran with (%d)", target, a);
    return 10 + target;
}
template <int target>
int two(int a, int b) {
    std::printf("func2: target %d ran with (%d, %d)", target, a, b);
    return 20 + target;
}
template <int target>
int three(int a, int b, unsigned c) {
    std::printf("func3: target %d ran with (%d, %d, %#x)", target, a, b, c);
    return 30 + target;
}
template <int target>
int four(int a, int b, unsigned c, const char* d) {
    std::printf("func4: target %d ran with (%d, %d, %#x, \"%s\")", target, a, b, c, d);
    return 40 + target;
}

DYNFUNC(func0, int(), &none<0>);
DYNFUNC(func1, int(int), &one<0>);
DYNFUNC(func2, int(int, int), &two<0>);
DYNFUNC(func3, int(int, int, unsigned), &three<0>);
DYNFUNC(func4, int(int, int, unsigned, const char*), &four<0>);

// What the commands need to know of one function. The calls are written out, as a program would: each is a direct call.
struct Row {
    std::string_view name;
    int (*call)();
    dynfunc::Result<void> (*choose)(std::size_t target);
    std::size_t (*chosen)();
};

template <auto& function, auto... targets>
constexpr Row row(std::string_view name, int (*call)()) {
    return {.name = name,
            .call = call,
            .choose = [](std::size_t target) { return function.retarget(std::array{targets...}[target]); },
            .chosen =
                [] {
                    constexpr std::array all{targets...};
                    std::size_t n = 0;
                    while (n < all.size() && all[n] != function.target()) ++n;
                    return n;
                }};
}

constexpr std::array rows{
    row<func0, &none<0>, &none<1>, &none<2>>("func0", [] { return func0(); }),
    row<func1, &one<0>, &one<1>, &one<2>>("func1", [] { return func1(1); }),
    row<func2, &two<0>, &two<1>, &two<2>>("func2", [] { return func2(1, 2); }),
    row<func3, &three<0>, &three<1>, &three<2>>("func3", [] { return func3(1, 2, 0xdeadbeef); }),
    row<func4, &four<0>, &four<1>, &four<2>>("func4", [] { return func4(1, 2, 0xdeadbeef, "a string"); }),
};

const Row* find(std::string_view name) {
    for (const Row& r : rows)
        if (r.name == name) return &r;
    return nullptr;
}

void list() {
    const auto infos = dynfunc::functions();
    for (const Row& r : rows)
        for (const dynfunc::FunctionInfo& f : infos)
            if (f.name == r.name)
                std::printf("%s: %s, form %s, target %zu at %#zx\n", f.name.c_str(), f.signature.c_str(),
                            dynfunc::to_string(f.form), r.chosen(), f.target.value);
}

void help() {
    std::puts(
        "func0 .. func4      call it and show target, arguments and result\n"
        "func0 .. func4 N    retarget it to its target N: 0, 1 or 2\n"
        "list                show all five\n"
        "help                show this");
}

void obey(const std::vector<std::string>& words) {
    const std::string& command = words[0];
    const Row* r = find(command);
    if (r == nullptr && command != "list" && command != "help") {
        std::fprintf(stderr, "unknown command '%s', try 'help'\n", command.c_str());
    } else if (words.size() > (r != nullptr ? 2 : 1)) {
        std::fprintf(stderr, "%s: unexpected '%s' at the end of the line\n", command.c_str(), words.back().c_str());
    } else if (command == "list") {
        list();
    } else if (command == "help") {
        help();
    } else if (words.size() == 1) {
        std::printf(" and returned %d\n", r->call());
    } else if (words[1] != "0" && words[1] != "1" && words[1] != "2") {
        std::fprintf(stderr, "%s: no target '%s', it has 0, 1 and 2\n", command.c_str(), words[1].c_str());
    } else if (auto done = r->choose(static_cast<std::size_t>(words[1][0] - '0')); !done) {
        std::fprintf(stderr, "%s: not retargeted: %s\n", command.c_str(), done.error().message().c_str());
    } else {
        std::printf("%s: now target %zu\n", command.c_str(), r->chosen());
    }
}

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // keeps answers and errors in order when both go to one file
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::vector<std::string> words;
        for (std::string word; in >> word;) words.push_back(word);
        if (!words.empty()) obey(words);
    }
}
