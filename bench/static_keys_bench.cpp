// SPDX-License-Identifier: MIT
// Bench "static_keys": what a branch costs that is hardly ever switched. Switching: toggle_bench.cpp. Start-up:
// startup_bench.cpp.
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "event_slot.hpp"

namespace bench {

DYNFUNC_STATIC_KEY_FALSE(key_off);
DYNFUNC_STATIC_KEY_TRUE(key_on);
DYNFUNC_STATIC_KEY_FALSE(key_flipped);

// Not static: the compiler must not know their values.
std::uint32_t flag_off = 0, flag_on = 1, flag_flipped = 0;

namespace {

// What stands behind each branch: nothing, but the compiler does not know that.
[[gnu::always_inline]] inline void body(std::uint64_t key, std::uint64_t bytes) { asm volatile("" ::"r"(key), "r"(bytes)); }

struct NoBranch {
    [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) { body(key, bytes); }
};

#define BENCH_BRANCH_SLOT(Name, condition)                                                 \
    struct Name {                                                                          \
        [[gnu::always_inline]] static void event(std::uint64_t key, std::uint64_t bytes) { \
            if (condition) body(key, bytes);                                               \
        }                                                                                  \
    }
BENCH_BRANCH_SLOT(Off, static_branch_unlikely(key_off));
BENCH_BRANCH_SLOT(On, static_branch_unlikely(key_on));
BENCH_BRANCH_SLOT(OnLikely, static_branch_likely(key_on));
BENCH_BRANCH_SLOT(Flipped, static_branch_unlikely(key_flipped));
#define BENCH_FLAG(flag) __builtin_expect(__atomic_load_n(&flag, __ATOMIC_RELAXED) != 0, 0)
BENCH_BRANCH_SLOT(FlagOff, BENCH_FLAG(flag_off));
BENCH_BRANCH_SLOT(FlagOn, BENCH_FLAG(flag_on));
BENCH_BRANCH_SLOT(FlagFlipped, BENCH_FLAG(flag_flipped));
#undef BENCH_FLAG
#undef BENCH_BRANCH_SLOT

struct BranchCase {
    const char* id;
    Loop beside_call, in_a_row;
    bool ours;
};
template <class Slot>
constexpr BranchCase branch_case(const char* id, bool ours) {
    return {id, &loop_beside_call<Slot>, &loop_in_a_row<Slot>, ours};
}
constexpr BranchCase branch_cases[] = {
    branch_case<NoBranch>("no-branch", false), branch_case<Off>("off", true),           branch_case<On>("on", true),
    branch_case<OnLikely>("on-likely", true),  branch_case<FlagOff>("flag-off", false), branch_case<FlagOn>("flag-on", false)};

void measure_still(Run& run, bool beside_call) {
    Group group(run, {.bench = "static_keys",
                      .title = beside_call ? "one branch in a loop with one call" : "16 branches in a row",
                      .text = "off, on: static_branch_unlikely() of a key that is disabled, enabled; on-likely: "
                              "static_branch_likely() of an enabled key. flag: load and test of a variable. no-branch: what "
                              "stands behind the branch, without it.",
                      .baseline = "no-branch",
                      .unit = "ns per branch"});
    for (const BranchCase& c : branch_cases)
        group.add({.id = c.id,
                   .params = {{"keys", 1}, {"sites", beside_call ? 1 : std::int64_t{slots_in_a_row}}},
                   .run = beside_call ? c.beside_call : c.in_a_row,
                   .elements = beside_call ? 1.0 : double{slots_in_a_row},
                   .form = c.ours ? to_string(dynfunc::capabilities().form) : ""});
    group.measure();
}

void flip_key() {
    static bool enabled = false;
    enabled = !enabled;
    if (auto done = enabled ? key_flipped.enable() : key_flipped.disable(); !done) {
        std::fprintf(stderr, "dynfunc-bench: toggle: %s\n", done.error().message().c_str());
        std::exit(1);
    }
}
void flip_flag() { __atomic_store_n(&flag_flipped, 1 - __atomic_load_n(&flag_flipped, __ATOMIC_RELAXED), __ATOMIC_RELAXED); }

// A thread on another core that does something every 100 us while it is asked to.
class Flipper {
public:
    Flipper() = default;
    ~Flipper() {
        stop_ = true;
        thread_.join();
    }
    Flipper(const Flipper&) = delete;
    Flipper& operator=(const Flipper&) = delete;

    void begin(void (*flip)()) { flip_ = flip; }
    void end() { flip_ = nullptr; }

private:
    void run() {
        pin_to(allowed_cpus().front());
        while (!stop_) {
            if (void (*flip)() = flip_; flip != nullptr) flip();
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    }
    std::atomic<void (*)()> flip_ = nullptr;
    std::atomic<bool> stop_ = false;
    std::thread thread_{&Flipper::run, this};
};

void measure_flipped(Run& run) {
    Group group(run, {.bench = "static_keys",
                      .title = "16 branches in a row, flipped from another core every 100 us",
                      .text = "The branch goes the other way all the time. CPU time of the thread that runs it, with the "
                              "interrupts that reach it.",
                      .baseline = "no-branch",
                      .unit = "ns per branch"});
    const Params params = {{"keys", 1}, {"sites", std::int64_t{slots_in_a_row}}};
    if (BusyCallers::other_cores() == 0) {
        group.leave_out("flipped", params, "needs a second core");
        return;
    }
    const auto flipper = std::make_shared<Flipper>();
    const auto add = [&](const char* id, Loop loop, void (*flip)(), bool ours) {
        group.add({.id = id,
                   .params = params,
                   .run =
                       [=](std::uint64_t n) {
                           flipper->begin(flip);
                           loop(n);
                           flipper->end();
                       },
                   .elements = double{slots_in_a_row},
                   .form = ours ? to_string(dynfunc::capabilities().form) : ""});
    };
    add("no-branch", &loop_in_a_row<NoBranch>, nullptr, false);
    add("flipped", &loop_in_a_row<Flipped>, &flip_key, true);
    add("flag-flipped", &loop_in_a_row<FlagFlipped>, &flip_flag, false);
    group.measure();
}

}  // namespace

void bench_static_keys(Run& run) {
    measure_still(run, true);
    measure_still(run, false);
    measure_flipped(run);
    bench_toggle(run);
    bench_branch_startup(run);
}

}  // namespace bench
