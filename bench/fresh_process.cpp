// SPDX-License-Identifier: MIT
#include "fresh_process.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <dynfunc/dynfunc.hpp>
#include <sstream>

#include "call_sites.hpp"
#include "child.hpp"
#include "harness.hpp"
#include "membarrier.hpp"

namespace bench {
namespace {

constexpr std::uint64_t batch = 1000;
constexpr std::size_t page = 4096;

template <class Operation>
double time_of(Operation&& operation) {
    const double begin = now(Clock::thread_cpu);
    operation();
    return now(Clock::thread_cpu) - begin;
}

template <class Operation>
double median_time(Operation&& operation) {
    constexpr std::size_t turns = 16;
    std::vector<double> ns;
    for (std::size_t i = 0; i < turns; ++i) ns.push_back(time_of([&] { operation(i); }));
    return median(ns);
}

// The block of a module whose functions start with the process.
const SiteBlock* first_block(const Module& module) {
    const auto* block = module.symbol<SiteBlock>("bench_sites");
    return block != nullptr && block->kind != nullptr ? block : nullptr;
}

int start(const std::string& name, bool announces) {
    Start seen{};
    const double begin = now(Clock::thread_cpu);
    const Module module(name);
    seen.load = now(Clock::thread_cpu) - begin;
    const SiteBlock* block = first_block(module);
    if (block == nullptr) {
        std::printf("%s\n", module.error().c_str());
        return 1;
    }
    if (announces) {
        const auto retarget = [block](std::size_t i) {
            if (!block->functions()[i].retarget(target_in(*block, i + 1))) std::exit(1);
        };
        seen.first = time_of([&] { retarget(0); });
        seen.again = time_of([&] { retarget(block->sites - 1); });
        const Batches batches(*block, block->sites);
        seen.all = time_of([&] { batches.turn(0); });
        seen.all_again = time_of([&] { batches.turn(1); });
        PatchedSites patched;
        patched.update();
        seen.sites = static_cast<double>(block->sites);
        seen.patched = static_cast<double>(patched.count_in(*block));
        for (const dynfunc::ObjectInfo& object : dynfunc::objects())
            if (object.mapped.contains(dynfunc::Address::of(block->run)))
                seen.private_pages = static_cast<double>(object.private_pages);
    }
    std::printf("%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f\n", seen.load, seen.first, seen.again, seen.all, seen.all_again,
                seen.sites, seen.patched, seen.private_pages);
    return 0;
}

// Writes the bytes of the range to where they are, in pieces that end at pages.
void write_back(int memory, const void* begin, const void* end) {
    for (const auto* at = static_cast<const unsigned char*>(begin); at < end;) {
        const std::size_t left = static_cast<std::size_t>(static_cast<const unsigned char*>(end) - at);
        const auto place = reinterpret_cast<std::uintptr_t>(at);
        const std::size_t size = std::min(left, page - place % page);
        if (pwrite(memory, at, size, static_cast<off_t>(place)) != static_cast<ssize_t>(size)) std::exit(1);
        at += size;
    }
}

// What a program would have to do that knew all the places already: one write for each page of the trampolines and of the call
// sites; or one for each call site, alone, where they lie apart.
double bare_write(int memory, const SiteBlock& block, std::size_t functions) {
    constexpr std::size_t distance = 256;  // as sites.py lays them out
    const auto* run = reinterpret_cast<const unsigned char*>(block.run);
    const auto write_each = [&] {
        const unsigned char* site = run + (distance - reinterpret_cast<std::uintptr_t>(run) % distance);
        for (; site < block.run_end; site += distance) write_back(memory, site, site + sizeof(std::uint64_t));
    };
    const auto write_pages = [&] {
        const void* first = block.records[0].code;
        write_back(memory, first, static_cast<const unsigned char*>(block.records[functions - 1].code) + sizeof(std::uint64_t));
        write_back(memory, run, block.run_end);
    };
    const bool apart = block.kind == std::string("dynfunc-inline-spread");
    return median_time([&](std::size_t) {
               apart ? write_each() : write_pages();
               sync_cores();
           }) /
           batch;
}

SiteBatch measure(int memory, const Module& module, const char* kind) {
    const SiteBlock* block = find_block(module, kind, batch);
    if (block == nullptr) std::exit(1);
    const std::size_t functions = kind == std::string("dynfunc-inline-one") ? 1 : batch;
    const Batches batches(*block, functions);
    batches.turn(0);
    batches.turn(1);
    SiteBatch seen{};
    seen.retarget = median_time([&](std::size_t i) { batches.turn(i); }) / batch;
    PatchedSites patched;
    patched.update();
    seen.patched = static_cast<double>(patched.count_in(*block));
    seen.write = bare_write(memory, *block, functions);
    return seen;
}

int measure_batches() {
    const Module module(batch_module);
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (!module.error().empty() || memory < 0 || !register_sync_cores()) {
        std::printf("%s\n", !module.error().empty() ? module.error().c_str() : "/proc/self/mem or membarrier is refused");
        return 1;
    }
    for (const char* kind : {"dynfunc", "dynfunc-inline", "dynfunc-inline-spread", "dynfunc-inline-one"}) {
        const SiteBatch seen = measure(memory, module, kind);
        std::printf("%.0f %.3f %.3f\n", seen.patched, seen.write, seen.retarget);
    }
    close(memory);
    return 0;
}

int throw_through_frames() {
    const auto seen = measure_throws();
    if (seen)
        std::printf("%.1f %.1f %.1f\n", seen->bare, seen->probed, seen->bare_beside);
    else
        std::printf("%s", seen.error().c_str());
    return seen ? 0 : 1;
}

std::expected<std::istringstream, std::string> ask(const std::vector<std::string>& environment,
                                                   const std::vector<std::string>& words) {
    std::vector<std::string> command = {"env", "-u", "DYNFUNC_CALL_SITES"};
    command.insert(command.end(), environment.begin(), environment.end());
    command.push_back(program_folder() / "dynfunc-bench");
    command.emplace_back(fresh_process_word);
    command.insert(command.end(), words.begin(), words.end());
    auto said = run_program(command, Cpus::measuring);
    if (!said) return std::unexpected(said.error());
    return std::istringstream(*said);
}

}  // namespace

int be_fresh_process(const std::vector<std::string>& words) {
    if (words.size() == 3 && words[0] == "start") return start(words[1], words[2] == "announced");
    if (words.size() == 1 && words[0] == "batches") return measure_batches();
    if (words.size() == 1 && words[0] == "throws") return throw_through_frames();
    std::fprintf(stderr, "dynfunc-bench: %s: for its own use\n", std::string(fresh_process_word).c_str());
    return 2;
}

std::expected<Start, std::string> start_fresh(const std::vector<std::string>& environment, const std::string& module) {
    auto said = ask(environment, {"start", module, module.contains("-silent") ? "silent" : "announced"});
    if (!said) return std::unexpected(said.error());
    Start seen{};
    if (*said >> seen.load >> seen.first >> seen.again >> seen.all >> seen.all_again >> seen.sites >> seen.patched >>
        seen.private_pages)
        return seen;
    return std::unexpected("a process of its own said: " + said->str());
}

std::expected<SiteBatches, std::string> batches_fresh() {
    auto said = ask({}, {"batches"});
    if (!said) return std::unexpected(said.error());
    SiteBatches seen{};
    bool complete = true;
    for (SiteBatch* each : {&seen.trampolines, &seen.dense, &seen.spread, &seen.one})
        complete = complete && *said >> each->patched >> each->write >> each->retarget;
    if (complete) return seen;
    return std::unexpected("a process of its own said: " + said->str());
}

std::expected<Throws, std::string> throws_fresh() {
    auto said = ask({}, {"throws"});
    if (!said) return std::unexpected(said.error());
    Throws seen{};
    if (*said >> seen.bare >> seen.probed >> seen.bare_beside) return seen;
    return std::unexpected("a process of its own said: " + said->str());
}

}  // namespace bench
