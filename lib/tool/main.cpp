// SPDX-License-Identifier: MIT
// The command `dynfunc`. Exit status: 0 done, 1 it could not be done (one line on stderr), 2 it was called wrongly.
#include <dynfunc/inspect.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "object_pattern.hpp"
#include "program.hpp"
#include "report.hpp"
#include "trace.hpp"

namespace {

constexpr int not_done = 1, wrong_usage = 2;

constexpr char examples[] = R"(Examples:
  dynfunc check /usr/bin/python3          how each function of a program could be probed
  dynfunc check --all libfoo.so           the same, function by function
  dynfunc check --json libfoo.so          the same for programs
  dynfunc list -f 'parse_*' ./server      which functions match, and their classes
  dynfunc list -m 'libc.so*' -f '*alloc*' ./server
  dynfunc trace -r -- ./server            how often, and how long, its functions run
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

constexpr char about_list[] = R"(Patterns are those of a shell: * ? [abc]. Without -m the functions of the program itself
are listed; '*' is the program with all that it loads at its start. A pattern with a
slash is about the whole path. Names of C++ functions are as in the source:
'std::vector<*>::push_back*'. The letters before them: dynfunc check --help.

Examples:
  dynfunc list ./server
  dynfunc list -f 'parse_*' -f 'main' ./server
  dynfunc list -m 'libstdc++*' -f 'std::basic_string*' ./server
  dynfunc list -m '*' python3 | grep '^  d'

Nothing of the program is executed. With -m the dynamic linker that it names is run,
and asked what it would load.
Exit status: 0 done, also if nothing matches, 1 it cannot be done (stderr says why),
2 wrong usage.)";

constexpr char about_trace[] = R"(Without -m the functions of the program itself are traced; '*' is all that it loads, also
later. Patterns as in: dynfunc list --help. Each function that matches gets a probe before
main() runs, or before the constructors of what is loaded later; child processes, and
what they execute, are counted too. The table goes to standard error, at the end and on
SIGUSR1 to this command. Times contain those of the functions that are called inside.

Examples:
  dynfunc trace -- ./server --port 8080
  dynfunc trace -r -f 'parse_*' -- ./server
  dynfunc trace -m 'libz.so*' -r -- gzip -k file
  dynfunc trace -m '*' --top 20 -- sqlite3 :memory: 'select 1'
  dynfunc trace --stacks -f 'parse_*' -- ./server
  dynfunc trace -o out.folded --format folded -- ./server && flamegraph.pl out.folded > out.svg
  dynfunc trace -o out.json --format chrome -- ./server     for Perfetto, Speedscope, Chromium
  dynfunc trace -r -o out.json -- ./server && jq '.functions[] | select(.calls > 0)' out.json

The program's exit status, or the signal that ended it, is this command's; 1 it could not
be started (stderr says why), 2 wrong usage. Programs that are linked statically or that
are set-user-ID cannot be traced.)";

struct List {
    std::string program;
    std::vector<std::string> modules, functions;
};

struct Check {
    std::string file;
    bool all = false, json = false;
};

int complain(const std::string& about, const char* why) {
    std::fprintf(stderr, "dynfunc: %s: %s\n", about.c_str(), why);
    return not_done;
}

int print(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        return complain("standard output", std::strerror(errno));
    return 0;
}

// What cannot be read is said, and the others are listed.
int run(const List& list) {
    namespace tool = dynfunc::tool;
    const auto program = tool::find_program(list.program);
    if (!program) return complain(list.program, program.error().c_str());
    tool::Found<std::vector<std::string>> objects = std::vector{program->path};
    if (!list.modules.empty()) objects = tool::objects_of(*program);
    if (!objects) return complain(program->path, objects.error().c_str());
    int status = 0;
    for (const std::string& object : *objects) {
        const auto matches = [&](const std::string& pattern) { return dynfunc::matches_object(pattern, object); };
        if (!list.modules.empty() && std::ranges::none_of(list.modules, matches)) continue;
        const auto found = dynfunc::inspect_file(object);
        const int done =
            found ? print(tool::listing(*found, list.functions)) : complain(object, found.error().message().c_str());
        if (done != 0) status = done;
    }
    return status;
}

int run(const Check& check) {
    const auto found = dynfunc::inspect_file(check.file);
    if (!found) return complain(check.file, found.error().message().c_str());
    return print(check.json ? dynfunc::to_json(*found) + '\n' : dynfunc::tool::report(*found, check.all));
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
    List list;
    CLI::App* const list_word =
        app.add_subcommand("list", "Which functions of a program and its libraries match, and how each could be probed.");
    list_word->footer(about_list);
    list_word->add_option("-m,--module", list.modules, "functions of objects whose file name matches; may be repeated")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    list_word->add_option("-f,--function", list.functions, "functions whose name matches; may be repeated")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    list_word->add_option("PROGRAM", list.program, "a program, looked for in PATH as a shell does")->required();
    dynfunc::tool::Trace trace;
    CLI::App* const trace_word =
        app.add_subcommand("trace", "Runs a program and counts, or times, the calls of its functions.");
    trace_word->footer(about_trace);
    trace_word->add_option("-m,--module", trace.modules, "functions of objects whose file name matches; may be repeated")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    trace_word->add_option("-f,--function", trace.functions, "functions whose name matches; may be repeated")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    trace_word->add_flag("-r,--return", trace.with_times, "also how long calls take");
    trace_word->add_flag("--stacks", trace.with_tree, "also which function called which; times calls, as -r does");
    trace_word->add_flag("--breakpoints", trace.with_breakpoints,
                         "also functions that take only a breakpoint: a signal for each call");
    trace_word->add_option("--max-active", trace.most_active, "calls of one object that are timed at once")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    trace_word->add_option("--top", trace.top, "lines of the table; 0: all")->type_name("N")->capture_default_str();
    trace_word->add_option("--every", trace.every, "print the table so often, too")
        ->type_name("SECONDS")
        ->check(CLI::PositiveNumber);
    CLI::Option* const output =
        trace_word->add_option("-o,--output", trace.output, "write everything into a file")->type_name("FILE");
    std::string format = "json";
    trace_word->add_option("--format", format, "of that file; folded: for flame graphs, chrome: every call, a time line")
        ->check(CLI::IsMember({"json", "folded", "chrome"}))
        ->needs(output);
    trace_word->add_option("--max-events", trace.most_events, "calls of each thread in a time line, the last ones")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 26))
        ->capture_default_str();
    trace_word->add_option("PROGRAM", trace.program, "a program, and behind it its arguments; put -- before it")
        ->required()
        ->type_name("ARGS...");
    trace_word->prefix_command(false);
    try {
        app.parse(arguments, argument);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : wrong_usage;
    }
    if (trace_word->parsed()) {
        if (format == "folded") trace.format = dynfunc::tool::Format::folded;
        if (format == "chrome") trace.format = dynfunc::tool::Format::chrome;
        trace.with_tree = trace.with_tree || trace.format != dynfunc::tool::Format::json;
        trace.with_times = trace.with_times || trace.with_tree;
        trace.most_events = std::bit_ceil(trace.most_events);
        return dynfunc::tool::run(trace);
    }
    return word->parsed() ? run(check) : run(list);
} catch (const std::exception& error) {
    return complain("stopped", error.what());
}
