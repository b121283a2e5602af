// SPDX-License-Identifier: MIT
// The command `dynfunc`. Exit status: 0 done, 1 it could not be done (one line on stderr), 2 it was called wrongly.
#include <dynfunc/inspect.hpp>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "report.hpp"

namespace {

constexpr int not_done = 1, wrong_usage = 2;

constexpr char examples[] = R"(Examples:
  dynfunc check /usr/bin/python3          how each function of a program could be probed
  dynfunc check --all libfoo.so           the same, function by function
  dynfunc check --json libfoo.so          the same for programs
  dynfunc check --help                    what the classes mean)";

constexpr char about_check[] = R"(Classes, best first: how a probe gets control where a function begins.
  a whole        the first instruction is as long as a jump and is replaced by it
  b guarded      a jump over several instructions; a thread that comes back between
                 them meets a breakpoint, and goes on in a copy of them
  c punned       a jump over one shorter instruction; the bytes behind it are a part
                 of the jump's distance and stay as they are
  d breakpoint   no jump fits; each hit costs a signal
  - refused      the first instruction cannot be read, or can run nowhere else

Examples:
  dynfunc check /usr/lib/x86_64-linux-gnu/libc.so.6
  dynfunc check --all ./server | grep parse
  dynfunc check --json ./server | jq '.classes.breakpoint.functions'
  dynfunc check --json ./server | jq -r '.verdicts[] | select(.site == "refused") | .name'

The file is read, never executed. Exit status: 0 it was checked, 1 it cannot be
checked (stderr says why), 2 wrong usage.)";

struct Check {
    std::string file;
    bool all = false, json = false;
};

int complain(const std::string& about, const char* why) {
    std::fprintf(stderr, "dynfunc: %s: %s\n", about.c_str(), why);
    return not_done;
}

int run(const Check& check) {
    const auto found = dynfunc::inspect_file(check.file);
    if (!found) return complain(check.file, found.error().message().c_str());
    const std::string text = check.json ? dynfunc::to_json(*found) + '\n' : dynfunc::tool::report(*found, check.all);
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        return complain("standard output", std::strerror(errno));
    return 0;
}

}  // namespace

int main(int arguments, char** argument) try {
    CLI::App app("Says what dynfunc could do with a binary, before anything is touched.", "dynfunc");
    app.footer(examples);
    app.require_subcommand(1);
    Check check;
    CLI::App* word = app.add_subcommand("check", "How each function of an executable or shared object could be probed.");
    word->footer(about_check);
    word->add_option("FILE", check.file, "an ELF executable or shared object; it need not be loaded")->required();
    word->add_flag("--all", check.all, "list every function, not only those that take no jump");
    word->add_flag("--json", check.json, "print one JSON object, with every function");
    try {
        app.parse(arguments, argument);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : wrong_usage;
    }
    return run(check);
} catch (const std::exception& error) {
    return complain("stopped", error.what());
}
