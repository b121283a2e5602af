// SPDX-License-Identifier: MIT
// Threads call functions that call each other, at random depth, interrupted by timer signals whose handlers call them too. A
// call returns, or is left by an exception or by longjmp; coroutines stop in the middle of it, go on in other threads, or are
// destroyed. Meanwhile return probes come and go, with so few instances that they run out all the time, and others count what
// is in flight:
//
//     - every result is right, for the caller and for the handler, which finds the data of its own call
//     - no handler runs after detach() has returned
//     - a probe that stays sees every call: those that returned, were unwound, left or missed are all that came
//     - at the end nothing is in flight
//
// The controls: a handler that forgets to count once; one that finds another call's data.
// DYNFUNC_TORTURE_SECONDS says for how long all together (default 10).
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "../pool/cpus.hpp"
#include "../pool/thread_timer.hpp"
#include "child.hpp"
#include "return_coroutine.hpp"
#include "returns.hpp"
#include "sequences.hpp"
#include "stress.hpp"

namespace dynfunc {
namespace {

using test::Coroutine;
using test::SmallRandom;

struct Thrown {
    std::uint64_t x;
};

// How a call ends at its bottom.
enum class End : std::uint8_t { returns, throws, leaves, stops };
struct Run {
    End end = End::returns;
    Coroutine* self = nullptr;
    jmp_buf back{};
};

constexpr std::size_t functions = 24;
constexpr unsigned most_depth = 12;
using Function = std::uint64_t (*)(Run&, unsigned depth, std::uint64_t x);
extern const std::array<Function, functions> table;

constexpr std::size_t next(std::size_t me, unsigned depth, std::uint64_t x) { return (me * 7 + depth * 5 + x) % functions; }
constexpr std::uint64_t combine(std::size_t me, std::uint64_t x, std::uint64_t inner) {
    return inner * (2 * me + 3) + (x ^ me);
}

[[gnu::noinline]] std::uint64_t bottom(Run& run, std::uint64_t x) {
    switch (run.end) {
        case End::returns:
            return x;
        case End::throws:
            throw Thrown{x};
        case End::leaves:
            longjmp(run.back, 1);
        case End::stops:
            run.self->yield();
            return x;
    }
    return 0;
}

template <std::size_t me>
[[gnu::noinline]] std::uint64_t node(Run& run, unsigned depth, std::uint64_t x) {
    const auto inner = [&] {
        if (run.self != nullptr && depth % 4 == 3) run.self->yield();
        return depth == 0 ? bottom(run, x) : table[next(me, depth, x)](run, depth - 1, x + 1);
    };
    if constexpr (me % 4 == 2) {
        try {
            return combine(me, x, inner());
        } catch (const Thrown&) {
            throw;
        }
    }
    return combine(me, x, inner());
}

template <std::size_t... i>
constexpr std::array<Function, functions> make_table(std::index_sequence<i...>) {
    return {&node<i>...};
}
constinit const std::array<Function, functions> table = make_table(std::make_index_sequence<functions>());

std::uint64_t expected(std::size_t me, unsigned depth, std::uint64_t x) {
    return combine(me, x, depth == 0 ? x : expected(next(me, depth, x), depth - 1, x + 1));
}
std::size_t index_of(std::uint64_t function) {
    std::size_t i = 0;
    while (i < functions && Address::of(table[i]).value != function) ++i;
    return i;
}

[[gnu::noinline]] bool leaves(Run& run, std::size_t me, unsigned depth, std::uint64_t x) {
    if (setjmp(run.back) != 0) return true;
    table[me](run, depth, x);
    return false;
}
bool call_some(SmallRandom& random, bool only_returns) {
    const std::size_t me = random.below(functions);
    const unsigned depth = random.below(most_depth);
    const std::uint64_t x = random();
    Run run{.end = only_returns ? End::returns : static_cast<End>(random.below(test::finds_left_calls ? 3 : 2))};
    switch (run.end) {
        case End::throws:
            try {
                table[me](run, depth, x);
                return false;
            } catch (const Thrown& thrown) {
                return thrown.x == x + depth;
            }
        case End::leaves:
            return leaves(run, me, depth, x);
        default:
            return table[me](run, depth, x) == expected(me, depth, x);
    }
}

enum class Fault : std::uint8_t { nothing, forgets_to_count, mixes_data };

// What the handlers of one probe find.
struct Observer {
    std::atomic<std::uint64_t> entries{0}, returns{0}, unwinds{0}, wrong{0}, late{0};
    std::atomic<bool> is_gone{false};
    bool skips_some = false;
    Fault fault = Fault::nothing;

    struct Data {
        Observer* observer = nullptr;
        std::uint64_t function = 0, x = 0, stack = 0;
        unsigned depth = 0;
        static inline std::atomic<std::int64_t> live{0};
        Data() { ++live; }
        Data(const Data&) = delete;
        ~Data() { --live; }
    };

    void reset() {
        entries = returns = unwinds = wrong = late = 0;
        is_gone = false;
    }
    ReturnOptions<Data> options(std::size_t max_active, int priority, AllowBreakpoint breakpoint) {
        return {.on_entry =
                    [](Data& data, Registers& registers) {
                        data.function = registers.instruction_pointer();
                        data.depth = static_cast<unsigned>(registers.integer(1));
                        data.x = registers.integer(2);
                        data.stack = registers.stack_pointer();
                        data.observer->check_late();
                        if (data.observer->skips_some && data.x % 3 == 0) return Track::skip;
                        ++data.observer->entries;
                        return Track::track;
                    },
                .on_return =
                    [](Data& data, Registers& registers) {
                        Observer& observer = *data.observer;
                        observer.check_late();
                        const std::uint64_t before = observer.returns++;
                        if (before == 100 && observer.fault == Fault::forgets_to_count) --observer.returns;
                        if (before == 100 && observer.fault == Fault::mixes_data) ++data.x;
                        if (registers.stack_pointer() != data.stack + test::return_address_bytes ||
                            registers.result() != expected(index_of(data.function), data.depth, data.x))
                            ++observer.wrong;
                    },
                .on_unwind =
                    [](Data& data) {
                        data.observer->check_late();
                        ++data.observer->unwinds;
                    },
                .max_active = max_active,
                .on_create = [this](Data& data) { data.observer = this; },
                .priority = priority,
                .breakpoint = breakpoint};
    }
    bool good() const { return wrong == 0 && late == 0; }

private:
    void check_late() {
        if (is_gone.load(std::memory_order_relaxed)) ++late;
    }
};

// Threads that call without a pause, until it is stopped.
class Calling {
public:
    explicit Calling(bool with_coroutines) : with_coroutines_(with_coroutines) {
        // One handler at a time, whose frame is large: stacks of coroutines are small.
        struct sigaction action {};
        action.sa_handler = &in_handler;
        action.sa_flags = SA_RESTART;
        sigaction(SIGALRM, &action, &before_);
        running_ = this;
        for (std::uint32_t i = 0; i < 3; ++i) threads_.emplace_back([this, i] { work(i); });
    }
    ~Calling() {
        stop();
        sigaction(SIGALRM, &before_, nullptr);
    }
    Calling(const Calling&) = delete;

    void stop() {
        stopped_ = true;
        for (auto& thread : threads_) thread.join();
        threads_.clear();
        for (auto& place : stopped_in_the_middle_) give_up(std::unique_ptr<Stopped>(place.exchange(nullptr)));
    }
    // Until some calls have begun and ended that begin now.
    void wait_for_more() const {
        const std::uint64_t before = calls_;
        while (calls_ < before + 20 && wrong_ == 0) sched_yield();
    }
    std::uint64_t calls() const { return calls_; }
    std::uint64_t in_signals() const { return in_signals_; }
    std::uint64_t resumed() const { return resumed_; }
    std::uint64_t wrong() const { return wrong_; }

private:
    // A coroutine with a call of its own.
    struct Stopped {
        struct Run run;
        std::size_t me;
        unsigned depth;
        std::uint64_t x;
        std::atomic<std::uint64_t>* wrong;
        Coroutine coroutine;

        Stopped(SmallRandom& random, std::atomic<std::uint64_t>* wrong)
            : me(random.below(functions)),
              depth(random.below(most_depth)),
              x(random()),
              wrong(wrong),
              coroutine([this](Coroutine& self) {
                  run.end = x % 4 == 0 ? End::throws : End::stops;
                  run.self = &self;
                  try {
                      if (table[me](run, depth, x) != expected(me, depth, x)) ++*this->wrong;
                  } catch (const Thrown& thrown) {
                      if (thrown.x != x + depth) ++*this->wrong;
                  }
              }) {}
    };

    static void in_handler(int) {
        if (mine_ == nullptr) return;
        // No exceptions: the unwinder may be what is interrupted.
        if (!call_some(*mine_, true)) ++running_->wrong_;
        running_->in_signals_.fetch_add(1, std::memory_order_relaxed);
    }
    void work(std::uint32_t seed) {
        SmallRandom random(seed), in_signals(seed + 50);
        mine_ = &in_signals;
        {
            const test::Ticking ticking(SIGALRM, (test::is_instrumented ? 1'000'000 : 100'000) + 1000 * long{seed});
            while (!stopped_) {
                if (!call_some(random, false)) ++wrong_;
                // Whoever waits for more calls has a turn then.
                if (calls_.fetch_add(1, std::memory_order_relaxed) % 8 == 0) sched_yield();
                if (with_coroutines_ && random.below(4) == 0) resume_some(random);
            }
        }
        mine_ = nullptr;
        test::overwrite_stack();
    }
    void resume_some(SmallRandom& random) {
        auto& place = stopped_in_the_middle_[random.below(static_cast<std::uint32_t>(std::size(stopped_in_the_middle_)))];
        std::unique_ptr<Stopped> mine(place.exchange(nullptr));
        if (mine == nullptr) mine = std::make_unique<Stopped>(random, &wrong_);
        resumed_.fetch_add(1, std::memory_order_relaxed);
        if (!mine->coroutine.resume()) return;
        if (random.below(16) != 0) mine.reset(place.exchange(mine.release()));
        give_up(std::move(mine));
    }
    // In the middle, where that is found.
    static void give_up(std::unique_ptr<Stopped> stopped) {
        while (!test::finds_left_calls && stopped != nullptr && stopped->coroutine.resume()) {
        }
    }

    struct sigaction before_ {};
    const bool with_coroutines_;
    std::atomic<bool> stopped_{false};
    std::atomic<std::uint64_t> calls_{0}, in_signals_{0}, resumed_{0}, wrong_{0};
    std::atomic<Stopped*> stopped_in_the_middle_[8]{};
    std::vector<std::thread> threads_;

    static inline Calling* running_ = nullptr;
    static inline thread_local constinit SmallRandom* mine_ = nullptr;
};

std::vector<ProbeTarget> some_targets(SmallRandom& random, std::size_t count) {
    std::vector<ProbeTarget> targets;
    const std::size_t first = random.below(functions);
    for (std::size_t i = 0; i < count; ++i) targets.emplace_back(Address::of(table[(first + i) % functions]));
    return targets;
}

// A probe on every function, all the time.
class Always {
public:
    explicit Always(std::size_t max_active, Fault fault = Fault::nothing) {
        observer_.fault = fault;
        std::vector<ProbeTarget> targets;
        for (const Function function : table) targets.emplace_back(Address::of(function));
        auto probe = ReturnProbe<Observer::Data>::attach(targets, observer_.options(max_active, 5, AllowBreakpoint::if_needed));
        EXPECT_TRUE(probe) << probe.error().message();
        if (probe) probe_ = std::move(*probe);
    }
    // Nobody calls any more.
    void expect_exact() {
        test::overwrite_stack();
        EXPECT_EQ(probe_.in_flight(), 0u);
        EXPECT_EQ(observer_.wrong, 0u);
        EXPECT_TRUE(is_exact());
        const ReturnCounts counts = probe_.counts();
        std::printf("    %lu calls: %lu returned, %lu unwound, %lu left, %lu missed\n", counts.calls, observer_.returns.load(),
                    counts.unwound, counts.stale, counts.missed);
    }
    bool is_exact() const {
        const ReturnCounts counts = probe_.counts();
        return counts.calls == counts.missed + observer_.entries && counts.unwound == observer_.unwinds &&
               observer_.entries == observer_.returns + observer_.unwinds + counts.stale;
    }
    const ReturnProbe<Observer::Data>& probe() const { return probe_; }
    const Observer& observer() const { return observer_; }

private:
    Observer observer_;
    ReturnProbe<Observer::Data> probe_;
};

class ReturnStress : public testing::Test {
protected:
    void SetUp() override {
        if (test::thread_sanitizer) GTEST_SKIP() << test::not_seen;
    }
    void TearDown() override {
        test::overwrite_stack();
        synchronize();
    }
    const test::KeepTraps keep_;
};

struct Toggled {
    std::uint64_t times = 0, refused = 0, late = 0, wrong = 0;
    bool good() const { return refused + late + wrong == 0; }
};

// Attaches, lets calls pass, detaches in one of several ways, and looks at what the handlers have found.
class Toggling {
public:
    explicit Toggling(std::uint32_t seed) : random_(seed) {}

    void cycle(const Calling& calling) {
        Observer& observer = observers_[outcome_.times++ % std::size(observers_)];
        // Nobody is inside of its handlers since it was detached.
        outcome_.late += observer.late;
        outcome_.wrong += observer.wrong;
        observer.reset();
        observer.skips_some = random_.below(2) == 0;
        const AllowBreakpoint breakpoint = random_.below(16) == 0 ? AllowBreakpoint::always : AllowBreakpoint::if_needed;
        auto probe = ReturnProbe<Observer::Data>::attach(
            some_targets(random_, 1 + random_.below(6)),
            observer.options(1 + random_.below(40), static_cast<int>(random_.below(11)), breakpoint));
        if (!probe) {
            if (outcome_.refused++ == 0) ADD_FAILURE() << probe.error().message();
            return;
        }
        switch (random_.below(4)) {
            case 0:
                probe->detach();
                break;
            case 1:
                calling.wait_for_more();
                probe->detach();
                break;
            case 2:
                calling.wait_for_more();
                static_cast<void>(probe->counts());
                probe->detach_nosync();
                synchronize();
                break;
            case 3: {
                // A second one on the same functions, gone before the first.
                Observer& other = observers_[outcome_.times++ % std::size(observers_)];
                outcome_.late += other.late;
                outcome_.wrong += other.wrong;
                other.reset();
                auto second = ReturnProbe<Observer::Data>::attach(some_targets(random_, functions),
                                                                  other.options(64, 7, AllowBreakpoint::if_needed));
                if (!second) {
                    ++outcome_.refused;
                    break;
                }
                calling.wait_for_more();
                second->detach();
                other.is_gone = true;
                static_cast<void>(probe->in_flight());
                probe->detach();
                break;
            }
        }
        observer.is_gone = true;
    }
    Toggled end() {
        synchronize();
        for (const Observer& observer : observers_) {
            outcome_.late += observer.late;
            outcome_.wrong += observer.wrong;
        }
        return outcome_;
    }
    const Toggled& outcome() const { return outcome_; }

private:
    SmallRandom random_;
    Observer observers_[16];
    Toggled outcome_;
};

TEST_F(ReturnStress, ThreeThousandTimesOnAndOffWhileThreadsCall) {
    const auto times = static_cast<std::uint64_t>(test::is_instrumented ? 300 : test::rounds(3'000, 60));
    std::uint64_t wrong = 0;
    Toggled outcome;
    {
        Always always(64);
        auto toggling = std::make_unique<Toggling>(1);
        Calling calling(false);
        while (toggling->outcome().times < times && toggling->outcome().good() && calling.wrong() == 0)
            toggling->cycle(calling);
        calling.stop();
        wrong = calling.wrong();
        outcome = toggling->end();
        std::printf("%lu probes, %lu calls, %lu in signal handlers\n", outcome.times, calling.calls(), calling.in_signals());
        always.expect_exact();
    }
    EXPECT_GE(outcome.times, times);
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(outcome.refused, 0u);
    EXPECT_EQ(outcome.late, 0u) << "a handler ran after detach() had returned";
    EXPECT_EQ(outcome.wrong, 0u);
}

TEST_F(ReturnStress, EverythingAtOnce) {
    const auto end = std::chrono::steady_clock::now() + test::share_of_torture(1, 1);
    std::uint64_t wrong = 0;
    Toggled outcome;
    std::atomic<std::uint64_t> threads{0}, children{0}, lost_children{0}, too_many{0};
    {
        Always always(48);
        auto toggling = std::make_unique<Toggling>(2);
        constexpr bool with_coroutines = !test::is_instrumented;  // whose stacks a sanitizer does not know
        Calling calling(with_coroutines);
        std::atomic<bool> over{false};
        std::vector<std::thread> others;
        others.emplace_back([&] {
            for (std::uint32_t seed = 2000; !over; ++seed) {
                std::thread([seed] {
                    SmallRandom random(seed);
                    for (int i = 0; i < 20; ++i) static_cast<void>(call_some(random, false));
                    test::overwrite_stack();
                }).join();
                ++threads;
            }
        });
        // Looks at every instance, again and again, while it is in use.
        others.emplace_back([&] {
            while (!over) {
                if (always.probe().in_flight() > always.probe().max_active()) ++too_many;
                sched_yield();
            }
        });
        // No exceptions in the child: what the unwinder holds may have been held by another thread of the parent.
        others.emplace_back([&] {
            for (std::uint32_t seed = 3000; !over; ++seed) {
                const test::Ended ended = test::in_child([seed] {
                    signal(SIGALRM, SIG_DFL);
                    alarm(60);
                    SmallRandom random(seed);
                    for (int i = 0; i < 20; ++i)
                        if (!call_some(random, true)) return 1;
                    return 0;
                });
                if (ended.status != 0 && lost_children++ == 0)
                    std::fprintf(stderr, "a child ended with status %d, signal %d\n", ended.status, ended.signal);
                ++children;
                usleep(1000);
            }
        });
        do toggling->cycle(calling);
        while (toggling->outcome().good() && calling.wrong() == 0 && lost_children == 0 &&
               std::chrono::steady_clock::now() < end);
        over = true;
        for (auto& thread : others) thread.join();
        calling.stop();
        wrong = calling.wrong();
        outcome = toggling->end();
        std::printf("%lu probes, %lu calls, %lu in signal handlers, %lu resumed, %lu threads, %lu children\n", outcome.times,
                    calling.calls(), calling.in_signals(), calling.resumed(), threads.load(), children.load());
        EXPECT_EQ(calling.resumed() > 0, with_coroutines);
        always.expect_exact();
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(outcome.refused, 0u);
    EXPECT_EQ(outcome.late, 0u) << "a handler ran after detach() had returned";
    EXPECT_EQ(outcome.wrong, 0u);
    EXPECT_EQ(lost_children, 0u);
    EXPECT_EQ(too_many, 0u);
    EXPECT_GT(children, 0u);
    EXPECT_GT(threads, 0u);
}

// In one thread, so that nothing but the fault can be noticed.
bool is_noticed(Fault fault) {
    Always always(48, fault);
    SmallRandom random(1);
    for (int i = 0; i < 1000; ++i)
        if (!call_some(random, false)) return true;
    test::overwrite_stack();
    return always.probe().in_flight() != 0 || !always.is_exact() || !always.observer().good();
}

TEST_F(ReturnStress, WhatIsCountedOrFoundWrongIsNoticed) {
    EXPECT_FALSE(is_noticed(Fault::nothing)) << "the controls themselves work";
    EXPECT_TRUE(is_noticed(Fault::forgets_to_count));
    EXPECT_TRUE(is_noticed(Fault::mixes_data));
}

// What the C library begins a thread with, before it has told the kernel of the thread's area of restartable sequences.
Address where_threads_begin() {
    static std::atomic<void*> found{nullptr};
    pthread_t thread;
    const auto look = [](void*) -> void* {
        found = _Unwind_FindEnclosingFunction(__builtin_return_address(0));
        return nullptr;
    };
    if (pthread_create(&thread, nullptr, look, nullptr) == 0) pthread_join(thread, nullptr);
    return Address::of(found.load());
}

// Its pool is used on one CPU, by a thread that has a number of it, while threads begin on another, which do not have one yet.
TEST_F(ReturnStress, ThreadsBeginInATrackedCall) {
    if (!test::finds_left_calls) GTEST_SKIP() << test::not_found;
    const Address begin = where_threads_begin();
    ASSERT_TRUE(begin);
    struct Seen {
        std::atomic<std::uint64_t> begun{0}, not_registered{0};
    } seen;
    struct Data {
        Seen* seen = nullptr;
    };
    const std::array<ProbeTarget, 2> targets{begin, Address::of(table[0])};
    auto probe = ReturnProbe<Data>::attach(targets, {.on_entry =
                                                         [](Data& data, Registers& registers) {
                                                             if (registers.instruction_pointer() == Address::of(table[0]).value)
                                                                 return Track::track;
                                                             ++data.seen->begun;
                                                             data.seen->not_registered += told_cpu() < 0;
                                                             return Track::track;
                                                         },
                                                     .on_return = [](Data&, Registers&) {},
                                                     .max_active = 64,
                                                     .on_create = [&seen](Data& data) { data.seen = &seen; }});
    ASSERT_TRUE(probe) << probe.error().message();
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::thread caller([&] {
        const test::OnCpu here(test::allowed_cpus().front());
        struct Run run;
        const volatile std::size_t first = 0;  // not a call that the compiler can do
        while (!stop) wrong += table[first](run, 0, 5) != expected(0, 0, 5);
    });
    const std::uint64_t threads = test::is_instrumented ? 200 : 5000;
    {
        const test::OnCpu here(test::allowed_cpus().back());
        constexpr std::size_t stack_bytes = 256 * 1024;
        for (std::uint64_t i = 0; i < threads; ++i) {
            void* const stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            ASSERT_NE(stack, MAP_FAILED);
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            pthread_attr_setstack(&attributes, stack, stack_bytes);
            pthread_t thread;
            const auto nothing = [](void*) -> void* { return nullptr; };
            ASSERT_EQ(pthread_create(&thread, &attributes, nothing, nullptr), 0);
            pthread_join(thread, nullptr);
            pthread_attr_destroy(&attributes);
            munmap(stack, stack_bytes);
        }
    }
    stop = true;
    caller.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_LE(probe->in_flight(), 1u) << "the caller's, whose stack the C library keeps";
    if (test::is_instrumented) return;  // the sanitizer's own function comes before
    EXPECT_GT(seen.begun, threads / 2) << "others found no instance";
    EXPECT_EQ(seen.not_registered, seen.begun);
}

}  // namespace
}  // namespace dynfunc
