// SPDX-License-Identifier: MIT
// A trap after every instruction of a call that is tracked: of the function, of the stub before it, of the slot and of what
// leads back to the caller. At each of them a walk of the stack finds the caller, and all of its callers.
//
// The control: a slot without unwind information.
#include <dlfcn.h>

#include <cstdio>
#include <optional>

#include DYNFUNC_TEST_STEPPING
#include "returns.hpp"
#include "stack_walk.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc {
namespace {

using test::around;
using test::return_around;
using test::Victim;
using test::Walk;

Walk outside;  // taken by who calls call_stepped()
long steps, restarted, in_stubs, lost;
std::string where_lost;

void on_step(std::uintptr_t at) {
    ++steps;
    Walk walk;
    walk.take_by_unwinder();
    const int caller = walk.count - Walk::callers(outside) - 2;
    if (walk.ends_like(outside) && caller >= 0 && Walk::is_of(walk.frames[caller], Address::of(&test::call_stepped))) return;
    // Where the kernel sends a thread that it interrupts in a restartable sequence: it may be outside of any function.
    if (std::memcmp(reinterpret_cast<const char*>(at) - sizeof test::restart_signature, &test::restart_signature,
                    sizeof test::restart_signature) == 0) {
        ++restarted;
        return;
    }
    if (test::is_in_stub(at)) {
        ++in_stubs;
        return;
    }
    if (lost++ >= 20) return;
    Dl_info info{};
    dladdr(reinterpret_cast<const void*>(at), &info);
    char line[200];
    std::snprintf(line, sizeof line, "%s+%#llx, %d frames;", info.dli_fname != nullptr ? info.dli_fname : "",
                  static_cast<unsigned long long>(at - reinterpret_cast<std::uintptr_t>(info.dli_fbase)), walk.count);
    where_lost += line;
}

[[gnu::noinline]] unsigned long step_through(Victim function, unsigned long a, unsigned long b) {
    steps = restarted = in_stubs = lost = 0;
    where_lost.clear();
    outside.take_by_unwinder();
    const unsigned long result = test::call_stepped(function, a, b);
    asm volatile("" : : : "memory");
    return result;
}

template <class Function>
Victim as_victim(Function* function) {
    return reinterpret_cast<Victim>(reinterpret_cast<void (*)()>(function));
}

class ReturnStep : public test::Returns {
protected:
    void SetUp() override {
        if (test::is_instrumented) GTEST_SKIP() << "the sanitizer's run-time library cannot be interrupted anywhere";
        test::Returns::SetUp();
        if (test::emulated) GTEST_SKIP() << "the emulator has no ptrace()";
        stepping_.emplace(&on_step);
        ASSERT_EQ(stepping_->why_not(), "");
    }

    static void expect_found(long at_least, const char* what) {
        std::printf("%s: %ld instructions, %ld of them behind a sequence that did not get through, %ld in the linker's stubs\n",
                    what, steps, restarted, in_stubs);
        EXPECT_GE(steps, at_least) << what << ": nothing was stepped through";
        EXPECT_EQ(lost, 0) << what << ", at " << where_lost;
    }

    const test::KeepTraps keep_;
    std::optional<test::Stepping> stepping_;
};

struct Handled {
    static inline int entries = 0, returns = 0;
};
ReturnOptions<Handled> tracking(Track (*on_entry)(Handled&, Registers&), Needs needs = Needs::vectors) {
    return {.on_entry = on_entry, .on_return = [](Handled&, Registers&) { ++Handled::returns; }, .needs = needs};
}
Track track(Handled&, Registers&) {
    ++Handled::entries;
    return Track::track;
}
Track skip(Handled&, Registers&) {
    ++Handled::entries;
    return Track::skip;
}
[[gnu::target("general-regs-only")]] Track track_without_vectors(Handled&, Registers&) { return Track::track; }
[[gnu::target("general-regs-only")]] void end_without_vectors(Handled&, Registers&) {}

TEST_F(ReturnStep, WithoutAProbe) {
    const Victim victim = test::victim_kinds[0].at[0];
    EXPECT_EQ(step_through(victim, 20, 3), test::victim_result(20, 3));
    expect_found(4, "no probe");
}

TEST_F(ReturnStep, EveryInstructionOfATrackedCall) {
    for (const test::VictimKind& kind : test::victim_kinds) {
        // The ways in are two on a machine where one instruction is replaced.
        const bool is_another =
            &kind == &test::victim_kinds.front() || kind.site_class != test::victim_kinds.front().site_class;
        if (test::takes_turns && !is_another) continue;
        const Victim victim = kind.at[0];
        for (const bool vectors : {true, false}) {
            auto options = tracking(&track);
            if (!vectors) {
                options.on_entry = &track_without_vectors;
                options.on_return = &end_without_vectors;
                options.needs = Needs::registers;
            }
            options.breakpoint = kind.breakpoint;
            auto probe = ReturnProbe<Handled>::attach(victim, options);
            ASSERT_TRUE(probe) << kind.name << ": " << probe.error().message();
            EXPECT_EQ(victim(1, 2, 0), test::victim_result(1, 2)) << "what is done once in each thread is done";
            Handled::entries = Handled::returns = 0;
            EXPECT_EQ(step_through(victim, 20, 3), test::victim_result(20, 3));
            expect_found(100, kind.name);
            EXPECT_EQ(Handled::returns, vectors ? 1 : 0);
            EXPECT_EQ(probe->counts().calls, 2u);
            EXPECT_EQ(probe->counts().missed, 0u);
            EXPECT_EQ(probe->in_flight(), 0u);
        }
    }
}

TEST_F(ReturnStep, EveryInstructionOfACallThatIsNotTracked) {
    const Victim victim = test::victim_kinds[2].at[0];
    {
        const auto probe = ReturnProbe<Handled>::attach(victim, tracking(&skip));
        ASSERT_TRUE(probe) << probe.error().message();
        victim(1, 2, 0);
        EXPECT_EQ(step_through(victim, 20, 3), test::victim_result(20, 3));
        expect_found(50, "skipped");
    }
    auto options = tracking(&track);
    options.max_active = 1;
    const ProbeTarget targets[] = {victim, &return_around};
    const auto probe = ReturnProbe<Handled>::attach(targets, options);
    ASSERT_TRUE(probe) << probe.error().message();
    around([&] {
        victim(1, 2, 0);
        EXPECT_EQ(step_through(victim, 20, 3), test::victim_result(20, 3));
        return 0;
    });
    expect_found(50, "missed");
    EXPECT_EQ(probe->counts().missed, 2u);
}

TEST_F(ReturnStep, EveryInstructionWithSeveralProbes) {
    const Victim victim = test::victim_kinds[1].at[0];
    std::vector<ReturnProbe<Handled>> probes;
    for (int i = 0; i < 3; ++i) probes.push_back(*ReturnProbe<Handled>::attach(victim, tracking(&track)));
    const auto entry = Probe::attach(victim, {.on_hit = [](ProbeHit&) { return AfterHit::keep; }});
    ASSERT_TRUE(entry);
    victim(1, 2, 0);
    Handled::returns = 0;
    EXPECT_EQ(step_through(victim, 20, 3), test::victim_result(20, 3));
    EXPECT_EQ(Handled::returns, 3);
    expect_found(150, "three");
}

TEST_F(ReturnStep, EveryInstructionOfATailCall) {
    const ProbeTarget targets[] = {&test::return_tail_first, &test::return_tail_second};
    const auto probe = ReturnProbe<Handled>::attach(targets, tracking(&track));
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(test::return_tail_first(5), 13u);
    Handled::returns = 0;
    EXPECT_EQ(step_through(as_victim(&test::return_tail_first), 5, 0), 13u);
    EXPECT_EQ(Handled::returns, 2);
    expect_found(150, "tail call");
}

TEST_F(ReturnStep, ASlotWithoutUnwindInformationIsNoticed) {
    auto inside = [] { return 41; };
    const auto data = reinterpret_cast<std::uintptr_t>(&inside);
    const auto function = reinterpret_cast<std::uintptr_t>(&test::call_inside<decltype(inside)>);
    EXPECT_EQ(step_through(as_victim(&test::return_bare_slot), function, data), 42u);
    EXPECT_GE(lost, 3);
    EXPECT_LT(lost, steps);
}

}  // namespace
}  // namespace dynfunc
