// SPDX-License-Identifier: MIT
// A thread is interrupted after each instruction of what the library does, by the trap flag, and the handler calls a probed
// function: no step is left out, and nothing depends on timing.
#include <sched.h>
#include <ucontext.h>
#include <dynfunc/call_sites.hpp>

#include "child.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc {
namespace {

using test::Victim;

// Of the places of a kind.
constexpr std::size_t from_handler = 1, changing = 2;

// The handler interrupts whoever changes them.
std::atomic<long> steps;
std::atomic<std::uint64_t> calls[test::victim_places];
std::atomic<unsigned long> wrong;
const test::VictimKind* kind;
std::size_t handler_place;
bool calls_what_changes;

void call(std::size_t place) {
    const unsigned long a = ++calls[place];
    if (kind->at[place](a, 5, 0) != test::victim_result(a, 5)) ++wrong;
}

// The kernel clears the flag while the handler runs.
void on_step(int, siginfo_t*, void*) {
    ++steps;
    call(handler_place);
    if (calls_what_changes) call(changing);
}

void step(bool on) {
    if (on)
        asm volatile("lea -128(%%rsp),%%rsp; pushfq; orq $0x100,(%%rsp); popfq; lea 128(%%rsp),%%rsp" ::: "cc", "memory");
    else
        asm volatile("lea -128(%%rsp),%%rsp; pushfq; andq $~0x100,(%%rsp); popfq; lea 128(%%rsp),%%rsp" ::: "cc", "memory");
}

void take_steps() {
    struct sigaction action {};
    action.sa_sigaction = &on_step;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGTRAP, &action, nullptr);
}

class Interrupted : public testing::TestWithParam<std::size_t> {
protected:
    void SetUp() override {
        if (test::is_instrumented)
            GTEST_SKIP() << "instrumented code takes a hundred times the steps, and waits in its own locks";
        kind = &test::victim_kinds[GetParam()];
        take_steps();
        steps = 0;
        wrong = 0;
        for (auto& each : calls) each = 0;
    }
    const test::KeepTraps keep_;
};

// The same function, and another one: each call is a hit or missed, and each hit has called its handler once.
TEST_P(Interrupted, EveryStepOfAHitMayBeAnotherHit) {
    for (const std::size_t inner : {std::size_t{0}, from_handler}) {
        handler_place = inner;
        test::Counter counters[2];
        std::vector<Probe> probes;
        for (std::size_t i = 0; i < 2; ++i)
            probes.push_back(Probe::attach(kind->at[i], counters[i].options(kind->breakpoint)).value());
        for (auto& each : calls) each = 0;
        call(0);
        for (int i = 0; i < 20; ++i) {
            step(true);
            call(0);
            step(false);
        }
        for (std::size_t i = 0; i < 2; ++i) {
            EXPECT_EQ(probes[i].hits() + probes[i].missed(), calls[i].load());
            EXPECT_EQ(probes[i].hits(), counters[i].calls.load());
        }
        EXPECT_GT(probes[inner].missed(), 0u) << "no step was inside of a handler";
    }
    EXPECT_EQ(wrong.load(), 0u);
    EXPECT_GT(steps.load(), 1000);
    std::printf("%ld steps\n", steps.load());
}

// The handler of the probe asks for the text lock: it is not called while the thread that was interrupted has it. What is being
// attached is called too, after every step of every write.
int attach_step_by_step() {
    alarm(60);  // if it was
    handler_place = from_handler;
    calls_what_changes = true;
    static test::Counter counter;
    const auto probe = Probe::attach(kind->at[from_handler], {.on_hit =
                                                                  [](ProbeHit&) {
                                                                      static_cast<void>(call_site_patching());
                                                                      return AfterHit::keep;
                                                                  },
                                                              .breakpoint = kind->breakpoint});
    if (!probe) return 2;
    { const auto once = Probe::attach(kind->at[changing], counter.options(kind->breakpoint)); }
    step(true);
    std::uint64_t hits = 0;
    {
        auto stepped = Probe::attach(kind->at[changing], counter.options(kind->breakpoint));
        call(changing);
        hits = stepped->hits();
        stepped->detach();
    }
    step(false);
    std::printf("%ld steps, %lu of them missed\n", steps.load(), static_cast<unsigned long>(probe->missed()));
    return wrong == 0 && hits != 0 && counter.calls >= hits && probe->hits() != 0 && probe->missed() != 0 &&
                   probe->hits() + probe->missed() == calls[from_handler]
               ? 0
               : 1;
}

TEST_P(Interrupted, EveryStepOfAnAttachAndADetachMayBeAHit) {
    const test::Ended ended = test::in_child(attach_step_by_step);
    EXPECT_EQ(ended.status, 0);
    EXPECT_EQ(ended.signal, 0) << "14: it waits for itself";
}

const auto name_of = [](const auto& info) { return test::victim_kinds[info.param].name; };
INSTANTIATE_TEST_SUITE_P(In, Interrupted, testing::Range(std::size_t{0}, test::victim_kinds.size()), name_of);

}  // namespace
}  // namespace dynfunc
