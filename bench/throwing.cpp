// SPDX-License-Identifier: MIT
#include "throwing.hpp"

#include <array>
#include <dynfunc/return_probe.hpp>
#include <utility>
#include <vector>

#include "harness.hpp"

namespace bench {
namespace {

struct Thrown {
    int value;
};

using Frame = int(int);

template <bool probed, std::size_t depth>
[[gnu::noinline]] int frame(int x) {
    asm volatile("" : "+r"(x) : "i"(probed), "i"(depth));  // no two are the same, and nothing is known of what they get
    if constexpr (depth + 1 < thrown_through) return frame<probed, depth + 1>(x) + 1;
    if (x != 0) throw Thrown{x};
    return x;
}

// Outermost first.
template <bool probed, std::size_t... depth>
std::array<Frame*, thrown_through> frames(std::index_sequence<depth...>) {
    return {&frame<probed, depth>...};
}
template <bool probed>
std::array<Frame*, thrown_through> frames() {
    return frames<probed>(std::make_index_sequence<thrown_through>());
}

constexpr int throws = 1000, turns = 5;

template <bool probed>
double time_throws() {
    Frame* const volatile outermost = frames<probed>().front();  // or a copy might be called, made for this argument
    std::vector<double> ns;
    int caught = 0;
    for (int turn = 0; turn <= turns; ++turn) {
        const double begin = now(Clock::thread_cpu);
        for (int i = 0; i < throws; ++i) {
            try {
                caught += outermost(1);
            } catch (const Thrown& thrown) {
                caught += thrown.value;
            }
        }
        if (turn > 0) ns.push_back((now(Clock::thread_cpu) - begin) / throws);  // the first one warms up
    }
    return caught == (turns + 1) * throws ? median(std::move(ns)) : 0;
}

void do_nothing(dynfunc::NoCallData&) {}

}  // namespace

std::expected<Throws, std::string> measure_throws() {
    Throws seen{};
    seen.bare = time_throws<false>();
    std::vector<dynfunc::ProbeTarget> targets;
    for (Frame* const each : frames<true>()) targets.emplace_back(each);
    const auto probe = dynfunc::ReturnProbe<>::attach(targets, {.on_unwind = &do_nothing});
    if (!probe) return std::unexpected(probe.error().message());
    seen.probed = time_throws<true>();
    seen.bare_beside = time_throws<false>();
    const dynfunc::ReturnCounts counts = probe->counts();
    constexpr std::uint64_t expected = std::uint64_t{turns + 1} * throws * thrown_through;
    if (counts.unwound != expected)
        return std::unexpected(std::to_string(counts.unwound) + " calls of " + std::to_string(expected) +
                               " were seen to be left, " + std::to_string(counts.missed) + " were missed");
    return seen;
}

}  // namespace bench
