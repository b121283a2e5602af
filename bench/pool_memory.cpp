// SPDX-License-Identifier: MIT
#include "pool_memory.hpp"

#include <bit>
#include <cstdio>
#include <dynfunc/object_pool.hpp>

namespace bench::pool {
namespace {

struct Machine {
    std::size_t cpus, objects;
};
// Two objects for each CPU are what the kernel makes for a return probe where nobody asks for more.
constexpr Machine machines[] = {{2, 32}, {2, 256}, {2, 4096}, {96, 192}, {96, 4096}, {384, 768}, {384, 6144}};

constexpr std::size_t line = 128;  // what a word that several CPUs write has for itself

struct Formula {
    const char* name;
    std::size_t (*bytes)(std::size_t objects, std::size_t cpus);
};

std::size_t limit(std::size_t objects, std::size_t cpus) { return 16 * objects + 128 * cpus; }

const Formula peers[] = {
    {"freelist", [](std::size_t n, std::size_t) { return 16 * n + line; }},
    {"percpu-freelist", [](std::size_t n, std::size_t cpus) { return 16 * n + line * cpus; }},
    {"array", [](std::size_t n, std::size_t) { return 8 * std::bit_ceil(n); }},
    {"ring", [](std::size_t n, std::size_t cpus) { return (12 * std::bit_ceil(n) + line) * cpus; }},
    {"kernel's ring", [](std::size_t n, std::size_t cpus) { return 8 * std::bit_ceil(n) * cpus; }},
};

std::string bytes_text(std::size_t bytes) {
    const auto value = static_cast<double>(bytes);
    char text[32];
    if (bytes < 10240)
        std::snprintf(text, sizeof text, "%zu B", bytes);
    else if (bytes < 10240 * 1024)
        std::snprintf(text, sizeof text, "%.0f KiB", value / 1024);
    else
        std::snprintf(text, sizeof text, "%.1f MiB", value / (1024 * 1024));
    return text;
}

std::string each_and_all(std::size_t bytes, std::size_t objects) {
    const double each = static_cast<double>(bytes) / static_cast<double>(objects);
    char text[32];
    std::snprintf(text, sizeof text, each < 100 ? "%.1f, " : "%.0f, ", each);
    return text + bytes_text(bytes);
}

}  // namespace

void add_memory_table(Results& results) {
    Table table{
        .bench = "pool",
        .title = "memory beside the objects: bytes for each object, and in all",
        .text =
            "Computed, not measured. freelist, percpu-freelist: 16 bytes in each object; array: a slot of 8 "
            "bytes each; ring: each CPU has room for all, 12 bytes a place; kernel's ring: the same with 8 bytes, by the "
            "formula of its source; to reach: 16 bytes an object and 128 a CPU. Boost, TBB, moodycamel and allocators have "
            "nodes and blocks of their own and are not computed.",
        .head = {"CPUs, objects", "dynfunc", "to reach", "reached"},
        .lines = {}};
    for (const Formula& peer : peers) table.head.emplace_back(peer.name);
    for (const auto& [cpus, objects] : machines) {
        const std::size_t own = dynfunc::pool_overhead(objects, cpus), most = limit(objects, cpus);
        std::vector<std::string> cells = {std::to_string(cpus) + ", " + std::to_string(objects), each_and_all(own, objects),
                                          each_and_all(most, objects), own <= most ? "yes" : "no"};
        for (const Formula& peer : peers) cells.push_back(each_and_all(peer.bytes(objects, cpus), objects));
        table.lines.push_back(std::move(cells));
    }
    results.add(std::move(table));
}

}  // namespace bench::pool
