// SPDX-License-Identifier: MIT
// Threads fire while others attach and detach, through every transition between none, one and several callbacks, and timer
// signals interrupt them all.
//
//     - no function ever gets another's data, and none is called after detach() returned: data lies on pages that are
//       taken away the moment it did
//     - a callback that stays attached gets every event exactly once, whatever comes and goes beside it
//     - an event that begins after attach() returned, and ends before detach() began, reaches the callback exactly once
//
// The controls break one rule each, and are to be noticed. DYNFUNC_TORTURE_SECONDS says for how long (default 10).
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <dynfunc/introspect.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

#include <array>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"
#include "surroundings.hpp"
#include "torture.hpp"

namespace torture {
DYNFUNC_TRACEPOINT(comes_and_goes, void(long value));       // 0 -> 1 -> 0 -> 1
DYNFUNC_TRACEPOINT(never_alone, void(long value, double));  // 1 -> 2 -> 3 -> 2 -> 1
DYNFUNC_TRACEPOINT(crowded, void(long value));              // anything, from several threads
}  // namespace torture

namespace dynfunc {
namespace {

using namespace torture;

constexpr int functions = 4;
std::atomic<bool> stop{false};
std::atomic<long> wrong_data{0}, lost{0}, doubled{0}, refused{0};
std::atomic<long> events{0}, checked{0}, handler_events{0}, changes{0};

void expect(const Result<void>& done) {
    if (!done && refused.fetch_add(1) == 0) std::fprintf(stderr, "refused: %s\n", done.error().message().c_str());
}
Subscription expect(Result<Subscription> made) {
    if (made) return std::move(*made);
    if (refused.fetch_add(1) == 0) std::fprintf(stderr, "refused: %s\n", made.error().message().c_str());
    return {};
}

// Data of one function, on a page of its own that is taken away with it.
struct Data {
    int function;
    long id;
    volatile long reads;
};
class DataPage {
public:
    DataPage(int function, long id) {
        page_ = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page_ == MAP_FAILED) std::abort();
        *get() = {function, id, 0};
    }
    ~DataPage() { mprotect(page_, 4096, PROT_NONE), munmap(page_, 4096); }
    DataPage(const DataPage&) = delete;
    Data* get() const { return static_cast<Data*>(page_); }

private:
    void* page_;
};

// What this thread's event met.
thread_local long met_id = 0;
thread_local int met = 0;
thread_local int stayed = 0;

void meet(int function, void* data) {
    auto* mine = static_cast<Data*>(data);
    // Long enough inside for the data to be taken away if somebody does not wait.
    for (int i = 0; i < 20; ++i)
        if (mine->function != function) ++wrong_data;
    met_id = mine->id;
    ++met;
}
template <int function>
void takes_data(long, void* data) {
    meet(function, data);
}
template <int function>
void takes_more(long, double, void* data) {
    meet(function, data);
}
constexpr std::array<void (*)(long, void*), functions> takers{&takes_data<0>, &takes_data<1>, &takes_data<2>, &takes_data<3>};
constexpr std::array<void (*)(long, double, void*), functions> more_takers{&takes_more<0>, &takes_more<1>, &takes_more<2>,
                                                                           &takes_more<3>};

// The id that every event must meet, while it is not 0.
std::atomic<long> attached_id{0};

void fire_comes_and_goes() {
    const long before = attached_id.load(std::memory_order_seq_cst);
    met = 0;
    met_id = 0;
    DYNFUNC_TRACE(comes_and_goes, 1);
    const int times = met;
    const long id = met_id;
    const long after = attached_id.load(std::memory_order_seq_cst);
    if (times > 1) ++doubled;
    if (before == 0 || before != after) return;
    checked.fetch_add(1, std::memory_order_relaxed);
    if (times != 1 || id != before) ++lost;
}

void stays(long, double) { ++stayed; }

void fire_never_alone() {
    stayed = 0;
    DYNFUNC_TRACE(never_alone, 2, 0.5);
    if (stayed == 0) ++lost;
    if (stayed > 1) ++doubled;
}

void fire_until_stopped() {
    long count = 0;
    while (!stop.load(std::memory_order_relaxed)) {
        fire_comes_and_goes();
        fire_never_alone();
        DYNFUNC_TRACE(crowded, 3);
        count += 3;
    }
    events += count;
}

void in_handler(int) {
    if (stop.load(std::memory_order_relaxed)) return;
    const auto interrupted = std::array<long, 3>{met, met_id, stayed};
    fire_comes_and_goes();
    fire_never_alone();
    met = static_cast<int>(interrupted[0]), met_id = interrupted[1], stayed = static_cast<int>(interrupted[2]);
    handler_events.fetch_add(2, std::memory_order_relaxed);
}

// 0 -> 1 -> 0 -> 1, each time another function with other data.
void change_comes_and_goes() {
    for (long id = 1; !stop.load(std::memory_order_relaxed); ++id) {
        const int function = static_cast<int>(id % functions);
        const DataPage data(function, id);
        Subscription subscription =
            expect(comes_and_goes.attach(takers[static_cast<std::size_t>(function)], data.get(), {.count_hits = id % 3 == 0}));
        attached_id.store(id, std::memory_order_seq_cst);
        if (id % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
        attached_id.store(0, std::memory_order_seq_cst);
        expect(subscription.detach());
        changes.fetch_add(2, std::memory_order_relaxed);
    }
}

// One stays; beside it N -> 2 -> 1, in changing order; alone it is called without a section, then in one, and so on.
void change_never_alone() {
    for (long id = 1; !stop.load(std::memory_order_relaxed); ++id) {
        const DataPage first(static_cast<int>(id % functions), id), second(static_cast<int>((id + 1) % functions), id);
        Subscription a = expect(never_alone.attach(more_takers[static_cast<std::size_t>(id % functions)], first.get(),
                                                   {.priority = static_cast<int>(id % 3) - 1}));
        Subscription b = expect(never_alone.attach(more_takers[static_cast<std::size_t>((id + 1) % functions)], second.get(),
                                                   {.priority = static_cast<int>(id % 2)}));
        expect(id % 2 == 0 ? a.detach() : b.detach());
        expect(id % 2 == 0 ? b.detach() : a.detach());
        changes.fetch_add(4, std::memory_order_relaxed);
    }
}

// Callable objects with something to lose, a batch, a pattern; several threads at once.
void change_crowded() {
    for (long i = 0; !stop.load(std::memory_order_relaxed); ++i) {
        auto held = std::make_unique<long>(i);
        Subscription a = expect(crowded.attach([held = std::move(held), i](long) {
            if (*held != i) ++wrong_data;
        }));
        auto pattern = subscribe("torture::crow*", [i, copy = i](const TraceEvent& event) {
            if (copy != i || event.get<long>(0) != 3) ++wrong_data;
        });
        if (!pattern) ++refused;
        expect(a.detach_nosync());
        if (pattern) expect(pattern->detach());
        changes.fetch_add(4, std::memory_order_relaxed);
    }
}

TEST(TracepointTorture, EveryEventReachesWhatIsAttachedAndNothingElse) {
    Subscription permanent = expect(never_alone.attach(&stays, {.static_lifetime = true}));
    {
        const test::TimerSignals signals(in_handler);
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back(fire_until_stopped);
        threads.emplace_back(change_comes_and_goes);
        threads.emplace_back(change_never_alone);
        for (int i = 0; i < 2; ++i) threads.emplace_back(change_crowded);
        test::for_the_torture([] { EXPECT_EQ(test::writable_code(), ""); });
        stop = true;
        for (auto& thread : threads) thread.join();
    }
    expect(permanent.detach());
    std::printf("%ld events, %ld in handlers, %ld that had to meet one callback, %ld attached or detached\n", events.load(),
                handler_events.load(), checked.load(), changes.load());
    EXPECT_EQ(wrong_data, 0);
    EXPECT_EQ(lost, 0);
    EXPECT_EQ(doubled, 0);
    EXPECT_EQ(refused, 0);
    EXPECT_GT(handler_events, 0);
    EXPECT_GT(checked, 0) << "no event fell between attach() and detach(): the run proves less than it should";
    for (const TracepointInfo& each : tracepoints("torture::*")) EXPECT_TRUE(each.callbacks.empty()) << each.name;
}

// The same, but whoever detaches does not wait: a thread that is still inside finds its data gone.
TEST(TracepointTortureControl, DetachingWithoutWaitingIsNoticed) {
    if (test::thread_sanitizer || test::address_sanitizer) GTEST_SKIP() << "the sanitizer would report it first";
    if (test::takes_turns) GTEST_SKIP() << test::never_meet;
    stop = false;
    const auto ended = test::in_child([] {
        test::take_faults_as_signals();
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back(fire_until_stopped);
        for (long id = 1;; ++id) {
            const DataPage data(static_cast<int>(id % functions), id);
            Subscription subscription =
                expect(comes_and_goes.attach(takers[static_cast<std::size_t>(id % functions)], data.get()));
            for (int i = 0; i < 50; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
            expect(subscription.detach_nosync());  // and the data goes at once
        }
        return 0;
    });
    EXPECT_NE(ended.signal, 0) << "nothing was noticed";
}

// What a tracepoint would be whose function and data are two words, each stored at once and loaded at once.
TEST(TracepointTortureControl, FunctionAndDataInTwoWordsAreNoticed) {
    if (test::takes_turns) GTEST_SKIP() << test::never_meet;
    stop = false;
    std::array<Data, functions> data{};
    for (int i = 0; i < functions; ++i) data[static_cast<std::size_t>(i)].function = i;
    std::atomic<int> function{0};
    std::atomic<Data*> its_data{&data[0]};
    std::atomic<long> mixed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            while (mixed == 0) {
                const int called = function.load(std::memory_order_acquire);
                if (its_data.load(std::memory_order_acquire)->function != called) ++mixed;
            }
        });
    for (std::size_t i = 0; mixed == 0; ++i) {
        its_data.store(&data[i % functions], std::memory_order_release);
        function.store(static_cast<int>(i % functions), std::memory_order_release);
    }
    for (auto& thread : threads) thread.join();
    EXPECT_GT(mixed, 0);
}

}  // namespace
}  // namespace dynfunc
