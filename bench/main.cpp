// SPDX-License-Identifier: MIT
// dynfunc-bench: runs the benches, prints their tables, writes the JSON from which report.py draws a page.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "benches.hpp"
#include "fresh_process.hpp"
#include "machine.hpp"

namespace {

constexpr std::size_t full_rounds = 25, quick_rounds = 7;

struct Options {
    std::vector<const bench::Bench*> benches;
    bool quick = false, matrix = false;
    std::string json;
};

void print_list(std::FILE* out) {
    for (const bench::Bench& bench : bench::all_benches) std::fprintf(out, "  %-14s %s\n", bench.name, bench.summary);
}

void print_usage(std::FILE* out) {
    std::fputs(
        "usage: dynfunc-bench [NAME...] [--quick] [--matrix] [--json FILE] [--list] [--help]\n"
        "  NAME...        only these benches; without a name all of them\n"
        "  --quick        7 rounds instead of 25\n"
        "  --matrix       pool: every mode and size with up to twice as many threads as CPUs; minutes\n"
        "  --json FILE    also write the results there\n"
        "  --list         print the benches and stop\n"
        "benches:\n",
        out);
    print_list(out);
}

[[noreturn]] void refuse(const std::string& message) {
    std::fprintf(stderr, "dynfunc-bench: %s\n", message.c_str());
    print_usage(stderr);
    std::exit(2);
}

const bench::Bench& find_bench(std::string_view name) {
    for (const bench::Bench& bench : bench::all_benches)
        if (name == bench.name) return bench;
    refuse("no bench is called '" + std::string(name) + "'");
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--help" || word == "-h") {
            print_usage(stdout);
            std::exit(0);
        } else if (word == "--list") {
            print_list(stdout);
            std::exit(0);
        } else if (word == "--quick") {
            options.quick = true;
        } else if (word == "--matrix") {
            options.matrix = true;
        } else if (word == "--json") {
            if (++i == argc) refuse("--json needs a file name");
            options.json = argv[i];
        } else if (word.starts_with("--json=")) {
            options.json = word.substr(std::strlen("--json="));
        } else if (word.starts_with("-")) {
            refuse("no option is called '" + std::string(word) + "'");
        } else {
            options.benches.push_back(&find_bench(word));
        }
    }
    if (options.matrix && (options.benches.size() != 1 || options.benches[0]->run != &bench::bench_pool))
        refuse("--matrix is for the bench 'pool' alone");
    if (options.benches.empty())
        for (const bench::Bench& bench : bench::all_benches) options.benches.push_back(&bench);
    return options;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc > 1 && argv[1] == bench::fresh_process_word) return bench::be_fresh_process({argv + 2, argv + argc});
    const Options options = parse(argc, argv);
    const std::vector<bench::Param> machine = bench::describe_machine();  // also reads the load before the benches are one
    if (!options.json.empty() && !std::ofstream(options.json, std::ios::app)) {
        // Told now, not after a minute of measuring.
        std::fprintf(stderr, "dynfunc-bench: cannot write %s: %s\n", options.json.c_str(), std::strerror(errno));
        return 1;
    }
    for (const bench::Param& param : machine) std::cout << "  " << bench::to_string({param}) << '\n';
    bench::pin_to(bench::measuring_cpu());
    bench::Results results;
    bench::Run run{results, options.quick ? quick_rounds : full_rounds, options.quick, options.matrix};
    for (const bench::Bench* bench : options.benches) {
        bench->run(run);
        results.print_table(bench->name, std::cout);
    }
    if (!options.json.empty()) results.write_json(options.json, machine);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "dynfunc-bench: %s\n", error.what());
    return 1;
}
