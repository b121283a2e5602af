// SPDX-License-Identifier: MIT
// Bench "static_keys": enabling and disabling keys with 1, 100 and 10,000 sites, alone and while another core runs a site.
#include <cstdio>
#include <cstdlib>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "call_sites.hpp"
#include "membarrier.hpp"

namespace bench {
namespace {

constexpr const char* module_name = "dynfunc-bench-branches.so";
constexpr std::uint64_t sizes[] = {1, 100, 10000};

void toggle(SiteKey& key) {
    if (auto done = key.is_enabled() ? key.disable() : key.enable(); !done) {
        std::fprintf(stderr, "dynfunc-bench: toggle: %s\n", done.error().message().c_str());
        std::exit(1);
    }
}

const SiteBlock* called_block;  // what the busy caller runs
void run_sites() {
    int x = called_block->run(1);
    asm volatile("" ::"r"(x));
}

Params params(std::uint64_t sites, std::size_t callers) {
    return {{"sites", static_cast<std::int64_t>(sites)}, {"callers", static_cast<std::int64_t>(callers)}};
}

GroupOptions options(const char* title, const char* text, Clock clock) {
    return {.bench = "static_keys",
            .title = title,
            .text = text,
            .baseline = "membarrier",
            .unit = "ns per toggle",
            .clock = clock};
}

using AddCase = std::function<void(Group&, Case, std::function<void()> operation)>;

void measure(Group& group, const Module& module, std::size_t callers, const AddCase& add) {
    add(group, {.id = "membarrier", .params = params(0, callers)}, [] { sync_cores(); });
    for (const std::uint64_t sites : sizes)
        add(group, {.id = "toggle", .params = params(sites, callers), .form = to_string(dynfunc::capabilities().form)},
            [&key = find_block(module, "static-key", sites)->static_key()] { toggle(key); });
    group.measure();
}

}  // namespace

void bench_toggle(Run& run) {
    const Module module(module_name);
    Group alone(run,
                options("toggle, no other thread",
                        "A key is enabled, then disabled, and so on. membarrier: that system call alone.", Clock::thread_cpu));
    if (!module.error().empty() || !register_sync_cores()) {
        alone.leave_out("toggle", {}, module.error().empty() ? "the system refuses membarrier" : module.error());
        return;
    }
    measure(alone, module, 0, [](Group& group, Case c, std::function<void()> operation) {
        c.run = [operation = std::move(operation)](std::uint64_t n) {
            while (n-- > 0) operation();
        };
        group.add(std::move(c));
    });
    Group busy(run, options("toggle, 1 busy caller",
                            "The same while another core runs the site of the first key without pause.", Clock::wall));
    if (BusyCallers::other_cores() == 0) {
        busy.leave_out("toggle", params(1, 1), "needs a second core");
        return;
    }
    called_block = find_block(module, "static-key", sizes[0]);
    const BusyCallers callers(&run_sites, 1);
    measure(busy, module, 1, [&callers](Group& group, Case c, std::function<void()> operation) {
        c.sample = [&callers, operation = std::move(operation)] { return median_latency(callers, operation); };
        group.add(std::move(c));
    });
}

}  // namespace bench
