// SPDX-License-Identifier: MIT
// A thread stands at an inner boundary of a guarded place, as a saved instruction pointer in the frame of a signal handler,
// while the jump goes in, or out, or both; when it goes on, its result is right. It is brought there by the trap flag, and
// nothing depends on when it comes:
//
//     in           before: the old instructions                            goes on: a breakpoint, then the copy
//     in and out   before: the old instructions                            goes on: the old instruction
//     trapped      it has run the breakpoint at the boundary, and its
//                  handler was not yet called                              the jump goes out; then the handler is called
//
// The control writes the same five bytes in one go, and the thread dies, or brings a wrong result.
// DYNFUNC_TORTURE_SECONDS says for how long all together (default 10).
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <dynfunc/capabilities.hpp>

#include <thread>

#include "child.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc {
namespace {

using test::Victim;
using test::VictimKind;

constexpr greg_t trap_flag = 0x100;

// Handlers call the sanitizer, and handlers of steps do so between any two of its instructions: it cannot be entered again.
constexpr bool may_step_through_hits = !test::thread_sanitizer;

enum class Stage : int { running, parked, released };

using TrapHandler = void (*)(int, siginfo_t*, void*);

// What the handlers of SIGTRAP, one per process, know.
struct Parking {
    std::atomic<std::uintptr_t> step_to{0};  // stop there while stepping
    std::atomic<bool> keeps_stepping{false};
    std::atomic<std::uintptr_t> trap_at{0};  // stop behind the breakpoint there
    std::atomic<Stage> stage{Stage::running};
    std::atomic<long> steps{0}, traps{0};
    void (*instead)() = nullptr;  // of waiting
    TrapHandler library = nullptr;
};
Parking parking;

void park() {
    if (parking.instead != nullptr) return parking.instead();
    parking.stage = Stage::parked;
    while (parking.stage != Stage::released) sched_yield();
    parking.stage = Stage::running;
}

void let_go() {
    parking.stage = Stage::released;
    while (parking.stage == Stage::released) sched_yield();
}

// Who had the signal before the library: it gets what is no breakpoint of the library's.
void on_step(int, siginfo_t*, void* context) {
    auto* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    ++parking.steps;
    if (static_cast<std::uintptr_t>(registers[REG_RIP]) != parking.step_to) return;
    parking.step_to = 0;
    if (!parking.keeps_stepping) registers[REG_EFL] &= ~trap_flag;
    park();
}

// Who took the signal after the library: it hands on to it.
void before_library(int signal, siginfo_t* info, void* context) {
    const auto at = static_cast<std::uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    if (at - 1 == parking.trap_at && info->si_code != TRAP_TRACE) {
        parking.trap_at = 0;
        ++parking.traps;
        park();
    }
    parking.library(signal, info, context);
}

void take_traps() {
    struct sigaction action {};
    action.sa_sigaction = &on_step;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    sigaction(SIGTRAP, &action, nullptr);
}

// What the kernel has, which libc does not say while the library has probes there.
TrapHandler exchange_handler(TrapHandler handler) {
    struct {
        TrapHandler handler;
        unsigned long flags;
        void (*restorer)();
        std::uint64_t mask;
    } action{};
    syscall(SYS_rt_sigaction, SIGTRAP, nullptr, &action, sizeof action.mask);
    std::swap(action.handler, handler);
    syscall(SYS_rt_sigaction, SIGTRAP, &action, nullptr, sizeof action.mask);
    return handler;
}

// Calls what it is asked to call, stepping.
class SteppingThread {
public:
    SteppingThread() : thread_([this] { work(); }) {}
    ~SteppingThread() {
        stop_ = true;
        thread_.join();
    }
    void begin(Victim function, unsigned long a, unsigned long b) {
        a_ = a, b_ = b;
        function_ = function;
    }
    // False: it came back without. (Virtual machines may lose the trap of a step: nothing promises it at every instruction.)
    bool parks() {
        while (parking.stage != Stage::parked) {
            // Its last stop is noted before its end.
            if (function_ == nullptr && parking.stage != Stage::parked) return false;
            sched_yield();
        }
        return true;
    }
    unsigned long result() {
        while (function_ != nullptr) sched_yield();
        return result_;
    }

private:
    void work() {
        while (!stop_) {
            const Victim function = function_;
            if (function == nullptr) {
                sched_yield();
                continue;
            }
            result_ = test::call_stepped(function, a_, b_);
            function_ = nullptr;
        }
    }
    std::atomic<bool> stop_{false};
    std::atomic<Victim> function_{nullptr};
    std::atomic<unsigned long> a_{0}, b_{0}, result_{0};
    std::thread thread_;
};

struct Outcome {
    long resumed = 0, passed_by = 0, wrong = 0, refused = 0, miscounted = 0, not_restored = 0;
};

class InnerBoundaryStress : public testing::TestWithParam<std::size_t> {
protected:
    void SetUp() override { take_traps(); }

    // Attached, and the boundaries are as the table says.
    Probe attach(Victim function, const VictimKind& kind) {
        counter_.reset();
        auto probe = Probe::attach(function, counter_.options(kind.breakpoint));
        if (probe) return std::move(*probe);
        if (outcome_.refused++ == 0) ADD_FAILURE() << probe.error().message();
        return {};
    }

    // `toggles`: attach and detach in turn, while the thread stands at `boundary`.
    void stand_and_toggle(Victim function, const VictimKind& kind, std::uint8_t boundary, int toggles, bool keeps_stepping) {
        const unsigned long a = next_++, b = 1000 + 7 * next_;
        const auto bytes = test::code_at(Address::of(function));
        parking.keeps_stepping = keeps_stepping;
        parking.step_to = (Address::of(function) + boundary).value;
        thread_.begin(function, a, b);
        if (!thread_.parks()) return pass_by(a, b);
        Probe probe;
        for (int i = 0; i < toggles; ++i) probe = i % 2 == 0 ? attach(function, kind) : Probe();
        let_go();
        check(a, b);
        // Only who comes to the first byte is a hit.
        if (probe && (counter_.calls != (boundary == 0 ? 1u : 0u) || probe.hits() != counter_.calls)) ++outcome_.miscounted;
        probe = {};
        outcome_.not_restored += bytes != test::code_at(Address::of(function));
    }

    void trap_and_detach(Victim function, const VictimKind& kind, std::uint8_t boundary) {
        const unsigned long a = next_++, b = 1000 + 7 * next_;
        parking.keeps_stepping = false;
        parking.step_to = (Address::of(function) + boundary).value;
        thread_.begin(function, a, b);
        if (!thread_.parks()) return pass_by(a, b);
        Probe probe = attach(function, kind);
        parking.library = exchange_handler(&before_library);
        parking.trap_at = (Address::of(function) + boundary).value;
        let_go();
        const bool has_trapped = thread_.parks();
        EXPECT_TRUE(has_trapped);
        probe.detach();
        if (has_trapped) let_go();
        check(a, b);
        exchange_handler(parking.library);
    }

    void pass_by(unsigned long a, unsigned long b) {
        parking.step_to = 0;
        ++outcome_.passed_by;
        check(a, b);
    }

    void check(unsigned long a, unsigned long b) {
        ++outcome_.resumed;
        outcome_.wrong += thread_.result() != test::victim_result(a, b);
    }

    const test::KeepTraps keep_;
    SteppingThread thread_;
    test::Counter counter_;
    unsigned long next_ = 1;
    Outcome outcome_;
};

TEST_P(InnerBoundaryStress, WhoStandsThereGoesOnRight) {
    const VictimKind& kind = test::victim_kinds[GetParam()];
    const auto end = std::chrono::steady_clock::now() + test::share_of_torture(1, 4);
    parking.steps = parking.traps = 0;
    do {
        for (Victim function : kind.at) {
            for (std::size_t i = 0; i <= kind.boundary_count; ++i) {
                const std::uint8_t boundary = i == 0 ? std::uint8_t{0} : kind.boundaries[i - 1];
                for (int toggles = 1; toggles <= 3; ++toggles)
                    for (const bool keeps_stepping : {false, true})
                        if (!keeps_stepping || may_step_through_hits)
                            stand_and_toggle(function, kind, boundary, toggles, keeps_stepping);
                if (boundary != 0) trap_and_detach(function, kind, boundary);
            }
        }
        if (HasFailure() || outcome_.wrong != 0) break;
    } while (std::chrono::steady_clock::now() < end);
    std::printf(
        "%s: %ld times gone on at a boundary (%ld times passed by it), %ld single steps, %ld traps that the jump left behind\n",
        kind.name, outcome_.resumed - outcome_.passed_by, outcome_.passed_by, parking.steps.load(), parking.traps.load());
    EXPECT_EQ(outcome_.wrong, 0);
    EXPECT_EQ(outcome_.refused, 0);
    EXPECT_EQ(outcome_.miscounted, 0);
    EXPECT_EQ(outcome_.not_restored, 0);
    EXPECT_GT(outcome_.resumed, 2 * outcome_.passed_by);
    EXPECT_GT(parking.traps, 0);
}

const auto name_of = [](const auto& info) { return test::victim_kinds[info.param].name; };
INSTANTIATE_TEST_SUITE_P(Of, InnerBoundaryStress, testing::Values(1, 2, 3, 4), name_of);

// A signal that says "step" with an address behind a breakpoint of ours is none of ours.
TEST(InnerBoundary, ASingleStepBehindAProbedPlaceIsNoHit) {
    const test::KeepTraps keep;
    take_traps();
    test::Counter counter;
    const Victim function = test::victim_kinds[2].at[0];
    { const auto once = Probe::attach(function, counter.options(AllowBreakpoint::never)); }
    EXPECT_EQ(test::call_stepped(function, 20, 3), test::victim_result(20, 3));
    EXPECT_EQ(counter.calls, 0u);
}

// Exit status 0: right; a wrong result is status 1.
int resume_under_a_naive_jump(const VictimKind& kind, std::uint8_t boundary) {
    static Victim victim;
    victim = kind.at[0];
    take_traps();
    parking.instead = [] {
        // The function that it leads to does the same: whoever takes the whole jump comes to the right result.
        const auto jump = test::jump_between(Address::of(victim), Address::of(test::victim_kinds[0].at[0]));
        test::write_naively(Address::of(victim), jump.data(), jump.size());
    };
    parking.keeps_stepping = false;
    parking.step_to = (Address::of(victim) + boundary).value;
    return test::call_stepped(victim, 20, 3) == test::victim_result(20, 3) ? 0 : 1;
}

TEST(InnerBoundaryControl, WhoStandsUnderAJumpWrittenInOneGoIsLost) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports the fault that is waited for";
    if (capabilities().writer == TextWriter::memory_file) GTEST_SKIP() << "what it writes with does not write to shared pages";
    for (const VictimKind& kind : test::victim_kinds) {
        // At the first byte it does no harm: the control itself works.
        if (kind.boundary_count == 0) continue;
        EXPECT_EQ(test::in_child([&] { return resume_under_a_naive_jump(kind, 0); }).status, 0) << kind.name;
        for (std::size_t i = 0; i < kind.boundary_count; ++i)
            EXPECT_NE(test::in_child([&] { return resume_under_a_naive_jump(kind, kind.boundaries[i]); }).status, 0)
                << kind.name << ", boundary " << int{kind.boundaries[i]};
    }
}

}  // namespace
}  // namespace dynfunc
