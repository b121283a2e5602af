// SPDX-License-Identifier: MIT
// Everything at once. A hundred functions call each other, at random depth; threads attach to them and detach again, singly, in
// batches and by handlers that ask for it; threads begin and end; another one maps and unmaps memory near the code; others
// fork: the child calls, attaches and detaches, or becomes another program. At the end nothing is attached, every byte is as it
// was, every result was right, and no hit was lost. Then without forks (whose children would wait for the dynamic linker's
// lock), but with an object that is unloaded while it is probed, and something else where it was.
//
// The controls: a probe that is forgotten; a handler that forgets to count once.
// DYNFUNC_TORTURE_SECONDS says for how long (default 10).
#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>
#include <dynfunc/grace_period.hpp>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "../pool/thread_timer.hpp"
#include "child.hpp"
#include "stress.hpp"

namespace dynfunc {
namespace {

using test::Counter;
using test::SmallRandom;

constexpr std::size_t functions = 100;
using Function = std::uint64_t (*)(unsigned depth, std::uint64_t x);
extern const std::array<Function, functions> table;

// Which function a function calls, and what it makes of the result.
constexpr std::size_t next(std::size_t me, unsigned depth, std::uint64_t x) { return (me * 31 + depth * 17 + x) % functions; }
constexpr std::uint64_t combine(std::size_t me, std::uint64_t x, std::uint64_t inner) {
    return inner * (2 * me + 3) + (x ^ me);
}

template <std::size_t me>
[[gnu::noinline]] std::uint64_t node(unsigned depth, std::uint64_t x) {
    if (depth == 0) return x + me;
    // Some keep more than others over the call, so that they begin in different ways.
    std::uint64_t more = 0;
    if constexpr (me % 3 == 1) more = table[(me + 1) % functions](0, x) - x - (me + 1) % functions;
    return combine(me, x, table[next(me, depth, x)](depth - 1, x + 1)) + more;
}

template <std::size_t... i>
constexpr std::array<Function, functions> make_table(std::index_sequence<i...>) {
    return {&node<i>...};
}
constinit const std::array<Function, functions> table = make_table(std::make_index_sequence<functions>());

// What function `me` returns, without calling it.
std::uint64_t expected(std::size_t me, unsigned depth, std::uint64_t x) {
    if (depth == 0) return x + me;
    return combine(me, x, expected(next(me, depth, x), depth - 1, x + 1));
}

bool call_some(SmallRandom& random) {
    const std::size_t me = random.below(functions);
    const unsigned depth = random.below(20);
    const std::uint64_t x = random();
    return table[me](depth, x) == expected(me, depth, x);
}

enum class Fault { nothing, forgets_a_probe, forgets_to_count };
enum class With { forks, objects, neither };

struct Outcome {
    std::atomic<long> calls{0}, attached{0}, maps{0}, threads{0}, children{0}, programs{0}, objects{0};
    std::atomic<long> wrong{0}, refused{0}, miscounted{0}, late{0}, lost_children{0}, changed_bytes{0};
    bool good() const { return wrong + refused + miscounted + late + lost_children + changed_bytes == 0; }
};

class Churn {
public:
    explicit Churn(Fault fault) : fault_(fault) {
        for (std::size_t i = 0; i < functions; ++i) before_[i] = test::code_at(Address::of(table[i]));
    }

    const Outcome& run(std::chrono::milliseconds duration, With with) {
        running_ = this;
        {
            const test::Disposition alarms(SIGALRM, &in_handler);
            std::vector<std::thread> threads;
            for (std::uint32_t i = 0; i < 3; ++i) threads.emplace_back([this, i] { call(i); });
            for (std::uint32_t i = 0; i < 2; ++i) threads.emplace_back([this, i] { attach_and_detach(100 + i); });
            threads.emplace_back([this] { map_and_unmap(); });
            threads.emplace_back([this] { start_and_end_threads(); });
            if (with == With::objects) threads.emplace_back([this] { load_and_unload(); });
            if (with == With::forks) {
                threads.emplace_back([this] { fork_children(); });
                threads.emplace_back([this] { run_programs(); });
            }
            const auto end = std::chrono::steady_clock::now() + duration;
            while (outcome_.good() && std::chrono::steady_clock::now() < end)
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
            stop_ = true;
            for (auto& thread : threads) thread.join();
        }
        for (std::size_t i = 0; i < functions; ++i)
            outcome_.changed_bytes += before_[i] != test::code_at(Address::of(table[i]));
        forgotten_.detach();
        return outcome_;
    }

private:
    struct Attached {
        Counter counter;
        Probe probe;
    };

    static void in_handler(int) {
        if (mine_ == nullptr) return;
        if (!call_some(*mine_)) ++running_->outcome_.wrong;
    }
    void call(std::uint32_t seed) {
        SmallRandom random(seed), in_signals(seed + 50);
        mine_ = &in_signals;
        {
            const test::Ticking ticking(SIGALRM, (test::is_instrumented ? 1'000'000 : 100'000) + 1000 * long{seed});
            while (!stop_) {
                if (!call_some(random)) ++outcome_.wrong;
                outcome_.calls.fetch_add(1, std::memory_order_relaxed);
            }
        }
        mine_ = nullptr;
    }

    // What a thread has counted stays when it ends.
    void start_and_end_threads() {
        for (std::uint32_t seed = 2000; !stop_; ++seed) {
            std::thread([this, seed] {
                SmallRandom random(seed);
                for (int i = 0; i < 20; ++i)
                    if (!call_some(random)) ++outcome_.wrong;
            }).join();
            ++outcome_.threads;
        }
    }

    ProbeRequest request(Attached& each, SmallRandom& random) {
        each.counter.reset();
        if (fault_ == Fault::forgets_to_count) each.counter.forgets_every = 3;
        const AllowBreakpoint breakpoint = random.below(8) == 0 ? AllowBreakpoint::always : AllowBreakpoint::if_needed;
        return {table[random.below(functions)], each.counter.options(breakpoint, static_cast<int>(random.below(3)))};
    }
    void accept(const Error& error) {
        if (outcome_.refused++ == 0) std::fprintf(stderr, "refused: %s\n", error.message().c_str());
    }
    void attach_one(Attached& each, SmallRandom& random) {
        const ProbeRequest wanted = request(each, random);
        auto probe = Probe::attach(wanted.target, wanted.options);
        if (!probe) return accept(probe.error());
        each.probe = std::move(*probe);
        ++outcome_.attached;
    }
    void attach_batch(std::span<Attached> batch, SmallRandom& random) {
        std::vector<ProbeRequest> requests;
        for (Attached& each : batch) requests.push_back(request(each, random));
        auto probes = Probe::attach(requests);
        if (!probes) return accept(probes.error());
        for (std::size_t i = 0; i < batch.size(); ++i) batch[i].probe = std::move((*probes)[i]);
        outcome_.attached += static_cast<long>(batch.size());
    }
    // Nobody comes in any more, and nobody is inside.
    void compare(std::span<Attached> batch) {
        for (Attached& each : batch) each.counter.is_open = false;
        synchronize();
        for (Attached& each : batch) outcome_.miscounted += each.probe && each.probe.hits() != each.counter.calls;
    }
    void attach_and_detach(std::uint32_t seed) {
        SmallRandom random(seed);
        const auto all = std::make_unique<std::array<Attached, 24>>();
        while (!stop_) {
            const std::size_t first = random.below(16), count = 1 + random.below(8);
            const std::span batch(all->data() + first, count);
            for (Attached& each : batch) each.counter.asks_to_be_disabled = each.probe && random.below(4) == 0;
            compare(batch);
            switch (random.below(3)) {
                case 0:
                    for (Attached& each : batch) each.probe.detach();
                    break;
                case 1:
                    for (Attached& each : batch) each.probe.detach_nosync();
                    synchronize();
                    break;
                case 2: {
                    std::vector<Probe> probes;
                    for (Attached& each : batch) probes.push_back(std::move(each.probe));
                    Probe::detach(probes);
                }
            }
            for (Attached& each : batch) each.counter.is_gone = true;
            sched_yield();
            for (Attached& each : batch) outcome_.late += each.counter.late != 0;
            if (random.below(2) == 0)
                attach_batch(batch, random);
            else
                for (Attached& each : batch) attach_one(each, random);
            for (Attached& each : batch) {
                if (random.below(2) == 0) continue;
                each.probe.disable();
                if (random.below(4) == 0) continue;
                if (auto enabled = each.probe.enable(); !enabled) accept(enabled.error());
            }
            // Handlers that ask to be disabled, and are not waited for.
            for (Attached& each : batch) each.counter.asks_to_be_disabled = random.below(3) == 0;
        }
        compare(*all);
        if (fault_ == Fault::forgets_a_probe && seed == 100) {
            // A handler that asked to be disabled already is no reason for other bytes.
            forgotten_ = Probe::attach(table[1], forgotten_counter_.options(AllowBreakpoint::if_needed)).value();
        }
        for (Attached& each : *all) each.probe.detach();
    }

    // Within the reach of a jump, where the library looks for memory too.
    void map_and_unmap() {
        SmallRandom random(3);
        struct Mapping {
            void* at;
            std::size_t size;
        };
        std::vector<Mapping> mappings;
        constexpr std::uint64_t reach = std::uint64_t{1} << 31, page = 4096;
        const std::uint64_t code = Address::of(table[0]).value / page * page;
        while (!stop_) {
            if (mappings.size() == 64 || (!mappings.empty() && random.below(2) == 0)) {
                std::swap(mappings[random.below(static_cast<std::uint32_t>(mappings.size()))], mappings.back());
                munmap(mappings.back().at, mappings.back().size);
                mappings.pop_back();
            }
            const std::uint64_t at = code - reach + std::uint64_t{random()} / page * page;
            const std::size_t size = page << random.below(12);
            void* const mapped = mmap(reinterpret_cast<void*>(at), size, PROT_READ,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
            if (mapped != MAP_FAILED) mappings.push_back({mapped, size}), ++outcome_.maps;
            sched_yield();
        }
        for (const Mapping& each : mappings) munmap(each.at, each.size);
    }

    // What is detached too late writes to nobody else's memory, not even where that reads like what it left there.
    void load_and_unload() {
        SmallRandom random(5);
        while (!stop_) {
            void* const object = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
            const auto function =
                object != nullptr ? reinterpret_cast<int (*)(int)>(dlsym(object, "plugin_function")) : nullptr;
            if (function == nullptr) return static_cast<void>(++outcome_.refused);
            Attached mine;
            auto probe = Probe::attach(function, mine.counter.options(AllowBreakpoint::if_needed));
            if (!probe) return accept(probe.error());
            if (function(3) != 13) ++outcome_.wrong;
            outcome_.miscounted += mine.counter.calls != 1 || probe->hits() != 1;
            if (random.below(4) == 0) probe->detach();
            constexpr std::uintptr_t page = 4096;
            const std::uintptr_t at = Address::of(function).value, begin = at / page * page;
            std::array<std::byte, page> armed;
            std::memcpy(armed.data(), reinterpret_cast<const void*>(begin), page);
            dlclose(object);
            void* const other = mmap(reinterpret_cast<void*>(begin), page, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (other != MAP_FAILED) std::memcpy(other, armed.data(), page);
            if (*probe && !probe->info().is_gone) ++outcome_.changed_bytes;
            probe->detach();
            if (other != MAP_FAILED) {
                outcome_.changed_bytes += std::memcmp(other, armed.data(), page) != 0;
                munmap(other, page);
            }
            ++outcome_.objects;
        }
    }

    // Exit status 0: all is well in the child, which has the probes of its parent, and its own.
    int be_a_child(std::uint32_t seed) {
        SmallRandom random(seed);
        for (int i = 0; i < 20; ++i)
            if (!call_some(random)) return 1;
        // This sanitizer's allocator may be locked in a child for ever: by another thread of the parent.
        for (int i = 0; i < 3 && !test::address_sanitizer; ++i) {
            Attached mine;
            const std::size_t at = random.below(functions);
            auto probe = Probe::attach(table[at], mine.counter.options(AllowBreakpoint::if_needed));
            if (!probe) return 2;
            if (table[at](0, 7) != 7 + at || mine.counter.calls != 1 || probe->hits() != 1) return 3;
            probe->detach();
            if (table[at](0, 8) != 8 + at || mine.counter.calls != 1) return 4;
            for (int k = 0; k < 5; ++k)
                if (!call_some(random)) return 5;
        }
        return 0;
    }
    void lose(test::Ended ended) {
        if (outcome_.lost_children++ == 0)
            std::fprintf(stderr, "a child ended with status %d, signal %d\n", ended.status, ended.signal);
    }
    void fork_children() {
        for (std::uint32_t seed = 1000; !stop_; ++seed) {
            const pid_t child = fork();
            if (child == 0) {
                alarm_after_a_minute();
                _exit(be_a_child(seed));
            }
            if (child < 0) continue;
            const test::Ended ended = test::wait_for(child);
            if (ended.status != 0) lose(ended);
            ++outcome_.children;
        }
    }
    // A child that waits for ever shall end.
    static void alarm_after_a_minute() {
        signal(SIGALRM, SIG_DFL);
        alarm(60);
    }
    void run_programs() {
        while (!stop_) {
            const pid_t child = fork();
            if (child == 0) {
                SmallRandom random(1);
                if (!call_some(random)) _exit(1);
                execl("/bin/true", "true", static_cast<char*>(nullptr));
                _exit(2);
            }
            if (child < 0) continue;
            const test::Ended ended = test::wait_for(child);
            if (ended.status != 0) lose(ended);
            ++outcome_.programs;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    const Fault fault_;
    std::array<std::array<std::byte, 16>, functions> before_;
    std::atomic<bool> stop_{false};
    Outcome outcome_;
    Counter forgotten_counter_;
    Probe forgotten_;

    static inline Churn* running_ = nullptr;
    static inline thread_local constinit SmallRandom* mine_ = nullptr;
};

TEST(ChurnStress, NothingIsLost) {
    if (test::emulated) GTEST_SKIP() << test::blocked_by_emulator;
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    const auto churn = std::make_unique<Churn>(Fault::nothing);
    const Outcome& outcome = churn->run(test::share_of_torture(2, 3), With::forks);
    std::printf("%ld calls with up to 20 more inside, %ld probes, %ld mappings, %ld threads, %ld children, %ld programs\n",
                outcome.calls.load(), outcome.attached.load(), outcome.maps.load(), outcome.threads.load(),
                outcome.children.load(), outcome.programs.load());
    EXPECT_EQ(outcome.wrong, 0);
    EXPECT_EQ(outcome.refused, 0);
    EXPECT_EQ(outcome.miscounted, 0);
    EXPECT_EQ(outcome.late, 0);
    EXPECT_EQ(outcome.lost_children, 0);
    EXPECT_EQ(outcome.changed_bytes, 0);
    EXPECT_GT(outcome.attached, 0);
    EXPECT_GT(outcome.children, 0);
    EXPECT_GT(outcome.programs, 0);
    EXPECT_GT(outcome.maps, 0);
}

TEST(ChurnStress, WhatIsUnloadedIsLeftAlone) {
    if (test::emulated) GTEST_SKIP() << test::blocked_by_emulator;
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    const auto churn = std::make_unique<Churn>(Fault::nothing);
    const Outcome& outcome = churn->run(test::share_of_torture(1, 3), With::objects);
    std::printf("%ld probes, %ld objects\n", outcome.attached.load(), outcome.objects.load());
    EXPECT_EQ(outcome.wrong, 0);
    EXPECT_EQ(outcome.refused, 0);
    EXPECT_EQ(outcome.miscounted, 0);
    EXPECT_EQ(outcome.late, 0);
    EXPECT_EQ(outcome.changed_bytes, 0);
    EXPECT_GT(outcome.objects, 0);
}

TEST(ChurnControl, AForgottenProbeIsNoticed) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    const auto churn = std::make_unique<Churn>(Fault::forgets_a_probe);
    EXPECT_EQ(churn->run(std::chrono::milliseconds(100), With::neither).changed_bytes, 1);
}

TEST(ChurnControl, AHitThatIsNotCountedIsNoticed) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    const auto churn = std::make_unique<Churn>(Fault::forgets_to_count);
    EXPECT_GT(churn->run(std::chrono::seconds(60), With::neither).miscounted, 0);
}

}  // namespace
}  // namespace dynfunc
