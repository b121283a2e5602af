// SPDX-License-Identifier: MIT
// Threads call functions that are probed and not, without a pause, and timer signals, whose handlers call them too, interrupt
// them at any instruction. Each class of probe, in each way in which its bytes can lie across words, lines and pages:
//
//     - every result is right
//     - what the library counts is what the handler counts, exactly, at moments when nobody can be inside
//     - with one consumer all the time, every call is a hit or missed
//     - no handler runs after detach() has returned, and the bytes are the old ones then
//
// The controls: a jump that is written in one go; a handler that forgets to count once.
// DYNFUNC_TORTURE_SECONDS says for how long all together (default 10).
#include <dynfunc/capabilities.hpp>
#include <dynfunc/grace_period.hpp>

#include "call_victims.hpp"
#include "child.hpp"

namespace dynfunc {
namespace {

using test::CallVictims;
using test::Counter;
using test::Victim;
using test::VictimKind;

struct Outcome {
    long cycles = 0, attached = 0, refused = 0, wrong_class = 0;
    long miscounted = 0, late = 0, not_restored = 0, still_armed = 0;
    bool good() const { return refused + wrong_class + miscounted + late + not_restored + still_armed == 0; }
};

class Toggling {
public:
    Toggling(const VictimKind& kind, CallVictims& callers) : kind_(kind), callers_(callers) {
        for (std::size_t i = 0; i < test::victim_places; ++i) before_[i] = test::code_at(Address::of(kind.at[i]));
    }

    void cycle(std::uint64_t forgets_every) {
        for (Counter& counter : counters_) counter.forgets_every = forgets_every;
        const auto place = static_cast<std::size_t>(outcome_.cycles) % test::victim_places;
        switch (outcome_.cycles++ % 7) {
            case 0:
                return detach_all_at_once();
            case 1:
                return close_and_detach(place);
            case 2:
                return remove_and_detach(place);
            case 3:
                return detach_in_full_run(place);
            case 4:
                return two_consumers(place);
            case 5:
                return detach_without_waiting(place);
            case 6:
                return outcome_.cycles % 5 == 0 ? count_all_calls() : detach_in_full_run(place);
        }
    }
    const Outcome& outcome() const { return outcome_; }

private:
    Probe attach(std::size_t place, Counter& counter, int priority = 0) {
        counter.reset();
        ++outcome_.attached;
        auto probe = Probe::attach(kind_.at[place], counter.options(kind_.breakpoint, priority));
        if (!probe) {
            if (outcome_.refused++ == 0) ADD_FAILURE() << probe.error().message();
            return {};
        }
        const ProbeInfo info = probe->info();
        if (info.site_class != kind_.site_class && outcome_.wrong_class++ == 0) ADD_FAILURE() << info.reason;
        return std::move(*probe);
    }
    // Nobody may be inside of a handler.
    void compare(const Probe& probe, const Counter& counter) {
        outcome_.miscounted += probe.hits() != counter.calls;
        outcome_.late += counter.late != 0;
    }
    void check_bytes() {
        for (std::size_t i = 0; i < test::victim_places; ++i)
            outcome_.not_restored += before_[i] != test::code_at(Address::of(kind_.at[i]));
    }
    // From now on the filter lets nobody in, and nobody is inside.
    void close(Counter& counter) {
        counter.is_open = false;
        synchronize();
    }
    void gone(Counter& counter) {
        counter.is_gone = true;
        check_bytes();
    }

    void detach_all_at_once() {
        std::vector<ProbeRequest> requests;
        for (std::size_t i = 0; i < test::victim_places; ++i) {
            counters_[i].reset();
            requests.push_back({kind_.at[i], counters_[i].options(kind_.breakpoint)});
        }
        auto probes = Probe::attach(requests);
        if (!probes) {
            if (outcome_.refused++ == 0) ADD_FAILURE() << probes.error().message();
            return;
        }
        callers_.wait_for_more(0);
        for (std::size_t i = 0; i < test::victim_places; ++i) counters_[i].is_open = false;
        synchronize();
        for (std::size_t i = 0; i < test::victim_places; ++i) compare((*probes)[i], counters_[i]);
        Probe::detach(*probes);
        check_bytes();
    }
    void close_and_detach(std::size_t place) {
        Probe probe = attach(place, counters_[0]);
        callers_.wait_for_more(place);
        close(counters_[0]);
        compare(probe, counters_[0]);
        probe.detach();
        gone(counters_[0]);
    }
    // The last consumer asks to be removed: the bytes are restored by whoever is there.
    void remove_and_detach(std::size_t place) {
        Probe probe = attach(place, counters_[0]);
        counters_[0].asks_to_be_disabled = true;
        callers_.wait_for_more(place);
        synchronize();
        compare(probe, counters_[0]);
        if (counters_[0].calls != 0) {
            outcome_.still_armed += probe.info().is_armed;
            check_bytes();
        }
        probe.detach();
        gone(counters_[0]);
    }
    void detach_in_full_run(std::size_t place) {
        Probe probe = attach(place, counters_[0]);
        probe.detach();
        gone(counters_[0]);
        callers_.wait_for_more(place);
        outcome_.late += counters_[0].late != 0;
    }
    void two_consumers(std::size_t place) {
        Probe first = attach(place, counters_[0], 1), second = attach(place, counters_[1]);
        close(counters_[0]);
        compare(first, counters_[0]);
        first.detach();
        counters_[0].is_gone = true;
        callers_.wait_for_more(place);
        close(counters_[1]);
        compare(second, counters_[1]);
        outcome_.late += counters_[0].late != 0;
        second.detach();
        check_bytes();
    }
    void detach_without_waiting(std::size_t place) {
        Probe probe;
        for (int again = 0; again < 16; ++again) {
            probe = attach((place + static_cast<std::size_t>(again)) % test::victim_places, counters_[0]);
            probe.detach_nosync();
            check_bytes();
        }
        probe = attach(place, counters_[1]);
        callers_.wait_for_more(place);
        probe.detach_nosync();
        synchronize();  // for both
        counters_[0].is_gone = counters_[1].is_gone = true;
        check_bytes();
    }
    void count_all_calls() {
        callers_.pause();
        std::vector<Probe> probes;
        for (std::size_t i = 0; i < test::victim_places; ++i) probes.push_back(attach(i, counters_[i]));
        std::array<std::uint64_t, test::victim_places> calls;
        for (std::size_t i = 0; i < test::victim_places; ++i) calls[i] = callers_.calls(i);
        callers_.go_on();
        // What the library does itself meanwhile: hits on threads that hold its locks.
        for (int i = 0; i < 20; ++i) {
            static_cast<void>(probes[0].info());
            callers_.wait_for_more(static_cast<std::size_t>(i) % test::victim_places);
        }
        callers_.pause();
        for (std::size_t i = 0; i < test::victim_places; ++i) {
            compare(probes[i], counters_[i]);
            outcome_.miscounted += probes[i].hits() + probes[i].missed() != callers_.calls(i) - calls[i];
        }
        Probe::detach(probes);
        check_bytes();
        callers_.go_on();
    }

    const VictimKind& kind_;
    CallVictims& callers_;
    std::array<std::array<std::byte, 16>, test::victim_places> before_;
    std::array<Counter, test::victim_places> counters_;
    Outcome outcome_;
};

class ProbeStress : public testing::TestWithParam<std::size_t> {
protected:
    const test::KeepTraps keep_;
};

TEST_P(ProbeStress, EveryResultIsRightAndEveryHitCounted) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const VictimKind& kind = test::victim_kinds[GetParam()];
    const auto end = std::chrono::steady_clock::now() + test::share_of_torture(1, test::victim_kinds.size());
    CallVictims callers(kind);
    Toggling toggling(kind, callers);
    do toggling.cycle(0);
    while (toggling.outcome().good() && callers.wrong() == 0 && std::chrono::steady_clock::now() < end);
    callers.stop();
    const Outcome& outcome = toggling.outcome();
    std::printf("%s: attached %ld times, %ld calls, %ld of them in signal handlers\n", kind.name, outcome.attached,
                static_cast<long>(callers.calls()), callers.calls_in_signals());
    EXPECT_EQ(callers.wrong(), 0);
    EXPECT_EQ(outcome.refused, 0);
    EXPECT_EQ(outcome.wrong_class, 0);
    EXPECT_EQ(outcome.miscounted, 0);
    EXPECT_EQ(outcome.late, 0) << "a handler ran after detach() had returned";
    EXPECT_EQ(outcome.not_restored, 0);
    EXPECT_EQ(outcome.still_armed, 0);
    EXPECT_GT(outcome.cycles, 0);
}

const auto name_of = [](const auto& info) { return test::victim_kinds[info.param].name; };
INSTANTIATE_TEST_SUITE_P(Of, ProbeStress, testing::Range(std::size_t{0}, test::victim_kinds.size()), name_of);

// Exit status 0: every result was right. The jump leads to a function that does the same.
int race_with_jumps_in_one_go() {
    const VictimKind& kind = test::victim_kinds[3];
    constexpr std::size_t page = 3;
    const Address at = Address::of(kind.at[page]);
    const auto before = test::code_at(at);
    const auto jump = test::jump_between(at, Address::of(test::victim_kinds[0].at[0]));
    CallVictims callers(kind);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (callers.wrong() == 0 && std::chrono::steady_clock::now() < end) {
        test::write_naively(at, jump.data(), jump.size());
        callers.wait_for_more(page);
        test::write_naively(at, before.data(), jump.size());
        callers.wait_for_more(page);
    }
    return callers.wrong() == 0 ? 0 : 1;
}

TEST(ProbeStressControl, AJumpThatIsWrittenInOneGoIsNoticed) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports the fault that is waited for";
    if (test::victim_kinds[3].boundary_count == 0) GTEST_SKIP() << "one instruction is replaced by one on this machine";
    if (capabilities().writer == TextWriter::memory_file) GTEST_SKIP() << "what it writes with does not write to shared pages";
    EXPECT_NE(test::in_child(race_with_jumps_in_one_go).status, 0);
}

TEST(ProbeStressControl, AHitThatIsNotCountedIsNoticed) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    CallVictims callers(test::victim_kinds[0]);
    Toggling toggling(test::victim_kinds[0], callers);
    while (toggling.outcome().good() && toggling.outcome().cycles < 1000) toggling.cycle(3);
    EXPECT_GT(toggling.outcome().miscounted, 0);
}

}  // namespace
}  // namespace dynfunc
