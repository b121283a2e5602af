// SPDX-License-Identifier: MIT
// Four consumers of one function: every set of them becomes every other one, changed from outside and from inside of a handler,
// and each consumer is called as often as it is to be, in the order of priority. Then the same while threads call, where who is
// detached is not called again.
//
// The control does not wait for a handler that is being called when its consumer is detached.
// DYNFUNC_TORTURE_SECONDS says for how long all together (default 10).
#include <dynfunc/grace_period.hpp>

#include <string>

#include "call_victims.hpp"

namespace dynfunc {
namespace {

using test::CallVictims;
using test::VictimKind;

constexpr unsigned consumers = 4, sets = 1u << consumers;
const unsigned to_next = test::takes_turns ? 3 : 1;  // every set, or every third

constexpr bool has(unsigned set, unsigned consumer) { return (set >> consumer & 1) != 0; }

// One function with up to four consumers and, perhaps, one that changes the others when it is called.
class Consumers {
public:
    explicit Consumers(const VictimKind& kind) : kind_(kind) {
        for (unsigned i = 0; i < consumers; ++i) each_[i].all = this, each_[i].number = i;
    }

    // Consumer i has priority -i: they are called in their order.
    void attach(unsigned i) {
        each_[i].calls = 0;
        auto probe = Probe::attach(kind_.at[0], {.on_hit = [](ProbeHit& hit) { return static_cast<Each*>(hit.data)->on_hit(); },
                                                 .data = &each_[i],
                                                 .priority = -static_cast<int>(i),
                                                 .breakpoint = kind_.breakpoint});
        if (probe)
            each_[i].probe = std::move(*probe);
        else
            refused_ = true;
    }
    void change(unsigned from, unsigned to) {
        for (unsigned i = 0; i < consumers; ++i) {
            if (has(from, i) && !has(to, i)) each_[i].probe.detach();
            if (!has(from, i) && has(to, i)) attach(i);
        }
    }
    // `who`: consumer that changes the set when it is called next; `consumers` is the one that does only that.
    void change_inside(unsigned who, unsigned from, unsigned to) { changer_ = who, from_ = from, to_ = to; }
    void attach_changer(int priority) {
        changer_probe_ = Probe::attach(kind_.at[0], {.on_hit =
                                                         [](ProbeHit& hit) {
                                                             static_cast<Consumers*>(hit.data)->perhaps_change(consumers);
                                                             return AfterHit::keep;
                                                         },
                                                     .data = this,
                                                     .priority = priority,
                                                     .breakpoint = kind_.breakpoint})
                             .value();
    }
    void detach_changer() { changer_probe_.detach(); }

    std::string call() {
        order_.clear();
        if (kind_.at[0](3, 4, 0) != test::victim_result(3, 4)) order_ = "wrong";
        return order_;
    }
    // Those of `set`, as call() shows them.
    static std::string names(unsigned set) {
        std::string all;
        for (unsigned i = 0; i < consumers; ++i)
            if (has(set, i)) all += static_cast<char>('0' + i);
        return all;
    }
    // Whether each that is attached counts as often as it was called.
    bool counts_are(unsigned set) const {
        for (unsigned i = 0; i < consumers; ++i)
            if (has(set, i) && each_[i].probe.hits() != each_[i].calls) return false;
        return !refused_;
    }
    std::uint64_t calls(unsigned i) const { return each_[i].calls; }

private:
    struct Each {
        Consumers* all;
        unsigned number;
        std::uint64_t calls = 0;
        Probe probe;
        AfterHit on_hit() {
            ++calls;
            all->order_ += static_cast<char>('0' + number);
            all->perhaps_change(number);
            return AfterHit::keep;
        }
    };
    void perhaps_change(unsigned who) {
        if (who != changer_) return;
        changer_ = nobody;
        change(from_, to_);
    }

    static constexpr unsigned nobody = consumers + 1;
    const VictimKind& kind_;
    Each each_[consumers]{};
    Probe changer_probe_;
    std::string order_;
    unsigned changer_ = nobody, from_ = 0, to_ = 0;
    bool refused_ = false;
};

class ConsumersStress : public testing::TestWithParam<std::size_t> {
protected:
    const test::KeepTraps keep_;
    const VictimKind& kind_ = test::victim_kinds[GetParam()];
};

TEST_P(ConsumersStress, EverySetBecomesEveryOtherFromOutside) {
    Consumers all(kind_);
    for (unsigned from = 0; from < sets; ++from) {
        for (unsigned to = 0; to < sets; to += to_next) {
            all.change(0, from);
            EXPECT_EQ(all.call(), Consumers::names(from));
            all.change(from, to);
            for (int i = 0; i < 3; ++i) EXPECT_EQ(all.call(), Consumers::names(to)) << from << " to " << to;
            EXPECT_TRUE(all.counts_are(to)) << from << " to " << to;
            for (unsigned i = 0; i < consumers; ++i)
                EXPECT_EQ(all.calls(i) * has(to, i), (has(from, i) ? 4u : 3u) * has(to, i)) << from << " to " << to;
            all.change(to, 0);
            EXPECT_EQ(all.call(), "");
            if (HasFailure()) return;
        }
    }
}

// Who is attached in a handler is called from the next hit on; who is detached is not called any more, not in this hit either.
TEST_P(ConsumersStress, EverySetBecomesEveryOtherFromInside) {
    Consumers all(kind_);
    for (unsigned from = 0; from < sets; ++from) {
        for (unsigned to = 0; to < sets; to += to_next) {
            for (unsigned who = 0; who <= consumers + 1; ++who) {
                const bool is_first = who == consumers, is_last = who == consumers + 1;
                if (who < consumers && !has(from, who)) continue;
                all.change(0, from);
                if (is_first || is_last) all.attach_changer(is_first ? 10 : -10);
                all.change_inside(is_last ? consumers : who, from, to);
                // Those in front of it were called already.
                const unsigned in_front = is_first ? 0 : is_last ? sets - 1 : (2u << who) - 1;
                EXPECT_EQ(all.call(), Consumers::names((from & in_front) | (from & to)))
                    << from << " to " << to << " by " << who;
                for (int i = 0; i < 3; ++i)
                    EXPECT_EQ(all.call(), Consumers::names(to)) << from << " to " << to << " by " << who;
                EXPECT_TRUE(all.counts_are(to)) << from << " to " << to << " by " << who;
                if (is_first || is_last) all.detach_changer();
                all.change(to, 0);
                EXPECT_EQ(all.call(), "");
                if (HasFailure()) return;
            }
        }
    }
}

TEST_P(ConsumersStress, EverySetBecomesEveryOtherWhileThreadsCall) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const auto end = std::chrono::steady_clock::now() + test::share_of_torture(1, test::victim_kinds.size());
    CallVictims callers(kind_);
    test::Counter counters[consumers];
    Probe probes[consumers];
    std::uint64_t last[consumers]{};
    long miscounted = 0, late = 0, backwards = 0, refused = 0, changes = 0;
    const auto watch = [&] {
        for (unsigned i = 0; i < consumers; ++i) {
            if (!probes[i]) continue;
            const std::uint64_t calls = counters[i].calls, hits = probes[i].hits();
            miscounted += hits < calls;  // it is counted before the handler is called
            backwards += hits < last[i];
            last[i] = hits;
        }
    };
    const auto change = [&](unsigned from, unsigned to) {
        bool any = false;
        for (unsigned i = 0; i < consumers; ++i) {
            if (!has(from, i) || has(to, i)) continue;
            counters[i].is_open = false;
            any = true;
        }
        if (any) synchronize();
        for (unsigned i = 0; i < consumers; ++i) {
            if (has(from, i) && !has(to, i)) {
                miscounted += probes[i].hits() != counters[i].calls;
                counters[i].is_open = true;
                probes[i].detach();
                counters[i].is_gone = true;
            }
            if (has(from, i) || !has(to, i)) continue;
            late += counters[i].late != 0;
            counters[i].reset();
            last[i] = 0;
            auto probe = Probe::attach(kind_.at[0], counters[i].options(kind_.breakpoint, -static_cast<int>(i)));
            if (probe)
                probes[i] = std::move(*probe);
            else
                ++refused;
        }
        ++changes;
    };
    unsigned now = 0;
    test::SmallRandom random(7);
    // All pairs, in an order of their own; then again.
    for (unsigned n = 0;
         std::chrono::steady_clock::now() < end && miscounted + late + backwards + refused + callers.wrong() == 0; ++n) {
        const unsigned next = random.below(sets);
        change(now, next);
        now = next;
        if (n % 8 == 0) callers.wait_for_more(0);
        watch();
    }
    change(now, 0);
    callers.wait_for_more(0);
    for (const auto& counter : counters) late += counter.late != 0;
    callers.stop();
    std::printf("%s: %ld changes, %ld calls\n", kind_.name, changes, static_cast<long>(callers.calls()));
    EXPECT_EQ(callers.wrong(), 0);
    EXPECT_EQ(miscounted, 0);
    EXPECT_EQ(late, 0) << "a handler ran after detach() had returned";
    EXPECT_EQ(backwards, 0);
    EXPECT_EQ(refused, 0);
}

const auto name_of = [](const auto& info) { return test::victim_kinds[info.param].name; };
INSTANTIATE_TEST_SUITE_P(Of, ConsumersStress, testing::Range(std::size_t{0}, test::victim_kinds.size()), name_of);

// detach_nosync() returns while a handler is being called; what detach() waits for has not ended.
TEST(ConsumersControl, AHandlerThatIsNotWaitedForIsNoticed) {
    if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    const test::KeepTraps keep;
    struct Slow {
        test::Counter counter;
        std::atomic<bool> is_inside{false}, may_leave{false};
    } slow;
    auto probe = Probe::attach(test::victim_kinds[0].at[0], {.on_hit =
                                                                 [](ProbeHit& hit) {
                                                                     auto& slow = *static_cast<Slow*>(hit.data);
                                                                     slow.is_inside = true;
                                                                     while (!slow.may_leave) sched_yield();
                                                                     return slow.counter.count();
                                                                 },
                                                             .data = &slow})
                     .value();
    std::thread caller([] { EXPECT_EQ(test::victim_kinds[0].at[0](1, 1, 0), test::victim_result(1, 1)); });
    while (!slow.is_inside) sched_yield();
    probe.detach_nosync();
    slow.counter.is_gone = true;
    slow.may_leave = true;
    caller.join();
    EXPECT_EQ(slow.counter.late, 1u);
    synchronize();
}

}  // namespace
}  // namespace dynfunc
