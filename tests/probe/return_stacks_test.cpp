// SPDX-License-Identifier: MIT
// Calls that are tracked on stacks of every kind, which end in another order than they began, in another thread, or never.
//
// The control: what return probes are elsewhere. The return address is replaced, and a list of the thread, ordered by the stack
// pointer, has the real one; who lies below a new call counts as left.
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "child.hpp"
#include "return_coroutine.hpp"
#include "returns.hpp"

namespace dynfunc {
namespace {

using test::around;
using test::attach_counting;
using test::Call;
using test::Coroutine;
using test::counting_also_left;
using test::expect_all_ended;
using test::finds_left_calls;
using test::not_found;
using test::overwrite_stack;
using test::return_around;
using test::return_deep;
using test::return_sum;
using test::return_twice;
using test::Seen;

class ReturnStacks : public test::Returns {
protected:
    template <class Function>
    static ReturnProbe<Call> attach_to_left(Function* function, Seen& seen, std::size_t max_active = 0) {
        auto probe = ReturnProbe<Call>::attach(function, counting_also_left(seen, max_active));
        EXPECT_TRUE(probe) << probe.error().message();
        return probe ? std::move(*probe) : ReturnProbe<Call>();
    }
    // All that began have ended or were left.
    static void expect_left(const ReturnProbe<Call>& probe, const Seen& seen, std::uint64_t calls, std::uint64_t left) {
        EXPECT_EQ(probe.in_flight(), 0u);
        const ReturnCounts counts = probe.counts();
        EXPECT_EQ(counts.calls, calls);
        EXPECT_EQ(counts.missed, 0u);
        EXPECT_EQ(counts.stale, left);
        EXPECT_EQ(seen.entries, calls);
        EXPECT_EQ(seen.ends(), calls - left);
        EXPECT_EQ(seen.strangers, 0u);
    }
};

// Frames that are left.

jmp_buf back;

template <class F>
[[gnu::noinline]] bool is_left(std::uint64_t depth, F& inside) {
    if (setjmp(back) != 0) return true;
    return_deep(depth, &test::call_inside<F>, &inside);
    return false;
}

constexpr int many = test::thread_sanitizer || test::address_sanitizer ? 5'000 : 100'000;

TEST_F(ReturnStacks, LeftByLongjmpAgainAndAgain) {
    if (!finds_left_calls) GTEST_SKIP() << not_found;
    auto leave = []() -> int { longjmp(back, 1); };
    // With no more instances than calls: each is needed again at once.
    for (const std::size_t most : {64, 9, 8}) {
        Seen seen;
        const auto probe = attach_to_left(&return_deep, seen, most);
        const std::uint64_t times = most == 64 ? many : many / 10;
        for (std::uint64_t i = 0; i < times; ++i) ASSERT_TRUE(is_left(7, leave));
        overwrite_stack();
        expect_left(probe, seen, 8 * times, 8 * times);
        auto good = [] { return 3; };
        EXPECT_EQ(return_deep(7, &test::call_inside<decltype(good)>, &good), 10u);
        expect_left(probe, seen, 8 * times + 8, 8 * times);
    }
}

TEST_F(ReturnStacks, OuterCallsGoOnAfterALongjmp) {
    if (!finds_left_calls) GTEST_SKIP() << not_found;
    Seen seen, seen_around;
    const auto probe = attach_to_left(&return_deep, seen, 8);
    const auto outer = attach_counting(&return_around, seen_around, 2);
    auto leave = []() -> int { longjmp(back, 1); };
    std::atomic<bool> is_inside{false}, may_leave{false};
    // In flight in another thread all the time.
    std::thread waiting([&] {
        around([&] {
            is_inside = true;
            while (!may_leave) std::this_thread::yield();
            return 0;
        });
    });
    while (!is_inside) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) {
        const std::uint64_t result = around([&] {
            if (!is_left(7, leave)) return std::uint64_t{0};
            overwrite_stack();
            return 100 * probe.in_flight() + outer.in_flight();
        });
        EXPECT_EQ(result, 3u);
        if (HasFailure()) break;
    }
    may_leave = true;
    waiting.join();
    expect_left(probe, seen, 8000, 8000);
    expect_all_ended(outer, seen_around, 1001);
}

sigjmp_buf signal_back;

void leave_the_handler(int) {
    around([]() -> int { siglongjmp(signal_back, 1); });
}
template <class F>
[[gnu::noinline]] bool is_left_by_a_handler(F& inside) {
    if (sigsetjmp(signal_back, 1) != 0) return true;
    return_deep(7, &test::call_inside<F>, &inside);
    return false;
}

class Handler {
public:
    Handler(int signal, void (*handler)(int), int flags) : signal_(signal) {
        struct sigaction action {};
        action.sa_handler = handler;
        action.sa_flags = flags;
        sigaction(signal, &action, &before_);
    }
    ~Handler() { sigaction(signal_, &before_, nullptr); }
    Handler(const Handler&) = delete;

private:
    int signal_;
    struct sigaction before_ {};
};

class AlternateStack {
public:
    AlternateStack() : memory_(new std::byte[bytes]) {
        const stack_t mine{.ss_sp = memory_.get(), .ss_flags = 0, .ss_size = bytes};
        sigaltstack(&mine, &before_);
    }
    ~AlternateStack() { sigaltstack(&before_, nullptr); }
    AlternateStack(const AlternateStack&) = delete;
    // Nothing runs there now.
    void overwrite() { std::memset(memory_.get(), 0x5a, bytes); }
    bool contains(const void* at) const { return memory_.get() <= at && at < memory_.get() + bytes; }

private:
    static constexpr std::size_t bytes = 256 * 1024;
    std::unique_ptr<std::byte[]> memory_;
    stack_t before_{};
};

// Handlers that are left: by themselves, or by that of a signal that interrupts them.

enum class LeavesBy { longjmp, signal };
LeavesBy leaves_by;
bool leaves_at_entry, leaves_at_return;
[[gnu::noinline]] void leave_now(bool leaves) {
    if (!leaves) return;
    if (leaves_by == LeavesBy::longjmp) siglongjmp(signal_back, 1);
    raise(SIGUSR1);
}
Track entered_and_left(Call&, Registers&) {
    leave_now(leaves_at_entry);
    return Track::track;
}
void returned_and_left(Call&, Registers&) { leave_now(leaves_at_return); }
[[gnu::noinline]] bool is_sum_left() {
    if (sigsetjmp(signal_back, 1) != 0) return true;
    static_cast<void>(return_sum(0));
    return false;
}

// One probe alone, and two, of which the first has an instance already when the second is left: none is lost, nothing is
// missed.
TEST_F(ReturnStacks, HandlersThatAreLeft) {
    if (!finds_left_calls) GTEST_SKIP() << not_found;
    const Handler handler(
        SIGUSR1, [](int) { siglongjmp(signal_back, 1); }, SA_NODEFER);
    constexpr std::size_t most = 2;
    for (const std::size_t probes : {1, 2}) {
        for (const LeavesBy by : {LeavesBy::longjmp, LeavesBy::signal}) {
            for (const bool at_entry : {true, false}) {
                std::vector<ReturnProbe<Call>> attached;
                for (std::size_t i = 0; i < probes; ++i) {
                    auto probe = ReturnProbe<Call>::attach(
                        &return_sum, {.on_entry = &entered_and_left, .on_return = &returned_and_left, .max_active = most});
                    ASSERT_TRUE(probe) << probe.error().message();
                    attached.push_back(std::move(*probe));
                }
                leaves_by = by;
                leaves_at_entry = at_entry;
                leaves_at_return = !at_entry;
                constexpr int times = many / 4;
                for (int i = 0; i < times; ++i) ASSERT_TRUE(is_sum_left());
                leaves_at_entry = leaves_at_return = false;
                overwrite_stack();
                EXPECT_EQ(return_sum(0), 0u);
                for (const ReturnProbe<Call>& probe : attached) {
                    EXPECT_EQ(probe.in_flight(), 0u);
                    EXPECT_EQ(probe.counts().missed, 0u);
                }
                EXPECT_FALSE(HasFailure()) << probes << " probes, left by "
                                           << (by == LeavesBy::signal ? "a signal" : "themselves")
                                           << (at_entry ? " at entry" : " at return");
            }
        }
    }
}

TEST_F(ReturnStacks, LeftByASignalHandler) {
    if (!finds_left_calls) GTEST_SKIP() << not_found;
    AlternateStack alternate;
    for (const int flags : {0, static_cast<int>(SA_ONSTACK)}) {
        const Handler handler(SIGUSR1, &leave_the_handler, flags);
        Seen seen, seen_around;
        const auto probe = attach_to_left(&return_deep, seen);
        const auto inner = attach_to_left(&return_around, seen_around);
        auto raise_inside = []() -> int { return raise(SIGUSR1); };
        constexpr int times = many / 5;
        for (int i = 0; i < times; ++i) ASSERT_TRUE(is_left_by_a_handler(raise_inside));
        overwrite_stack();
        alternate.overwrite();
        expect_left(probe, seen, 8ul * times, 8ul * times);
        expect_left(inner, seen_around, times, times);
    }
}

std::atomic<int> handled{0};
const void* handlers_stack;

void call_much(int) {
    handlers_stack = __builtin_frame_address(0);
    auto good = [] { return 5; };
    if (return_deep(20, &test::call_inside<decltype(good)>, &good) == 25) ++handled;
    auto throws = []() -> int { throw std::runtime_error("in a handler"); };
    try {
        return_deep(20, &test::call_inside<decltype(throws)>, &throws);
    } catch (const std::runtime_error&) {
        ++handled;
    }
}

TEST_F(ReturnStacks, OnAnAlternateStack) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports exceptions in signal handlers";
    const AlternateStack alternate;
    const Handler handler(SIGUSR1, &call_much, SA_ONSTACK);
    Seen seen;
    const auto probe = attach_counting(&return_deep, seen, 100);
    handled = 0;
    auto raise_inside = [] { return raise(SIGUSR1); };
    for (int i = 0; i < 100; ++i) EXPECT_EQ(return_deep(10, &test::call_inside<decltype(raise_inside)>, &raise_inside), 10u);
    EXPECT_TRUE(alternate.contains(handlers_stack));
    EXPECT_EQ(handled, 200);
    EXPECT_EQ(seen.unwinds, 2100u);
    expect_all_ended(probe, seen, 100 * (11 + 21 + 21));
}

// Depth.

TEST_F(ReturnStacks, DeeperThanThereAreInstances) {
    Seen seen;
    const auto probe = attach_counting(&return_sum, seen, 4096);
    for (std::uint64_t round = 1; round <= 3; ++round) {
        EXPECT_EQ(return_sum(6000), 6000u * 6001 / 2);
        EXPECT_EQ(probe.counts().calls, 6001 * round);
        EXPECT_EQ(probe.counts().missed, 1905 * round);
        EXPECT_EQ(seen.returns, 4096 * round);
        EXPECT_EQ(probe.in_flight(), 0u);
    }
    EXPECT_EQ(seen.strangers, 0u);
    EXPECT_EQ(probe.counts().stale, 0u);
}

TEST_F(ReturnStacks, AsDeepAsThereAreInstances) {
    std::vector<ReturnProbe<Call>> probes;
    Seen seen[3];
    for (Seen& each : seen) probes.push_back(attach_counting(&return_sum, each, 10'000));
    EXPECT_EQ(return_sum(9'999), 9'999u * 10'000 / 2);
    for (std::size_t i = 0; i < 3; ++i) expect_all_ended(probes[i], seen[i], 10'000);
}

// Several stacks in one thread, and in several.

using Around = std::uint64_t (*)(test::Inside, void*);

// Calls itself by way of `via`, and stops before and behind each call. Each `weight` is code of its own: who returns to another
// coroutine's caller brings another sum.
template <std::uint64_t weight>
[[gnu::noinline]] std::uint64_t walk(Coroutine& self, Around via, std::uint64_t depth, std::uint64_t& inside) {
    auto step = [&]() -> std::uint64_t {
        ++inside;
        self.yield();
        const std::uint64_t below = depth == 0 ? 0 : walk<weight>(self, via, depth - 1, inside);
        self.yield();
        --inside;
        return below + weight;
    };
    const std::uint64_t result = via(&test::call_inside<decltype(step)>, &step);
    asm volatile("" : : : "memory");
    return result * 3;
}
template <std::uint64_t weight>
constexpr std::uint64_t walked(std::uint64_t depth) {
    std::uint64_t result = 0;
    for (std::uint64_t i = 0; i <= depth; ++i) result = (result + weight + 1) * 3;
    return result;
}

struct Walker {
    std::uint64_t result = 0, expected = 0, inside = 0;
    std::optional<Coroutine> coroutine;

    template <std::uint64_t weight>
    void begin(Around via, std::uint64_t depth) {
        expected = walked<weight>(depth);
        coroutine.emplace([this, via, depth](Coroutine& self) { result = walk<weight>(self, via, depth, inside); });
    }
};

struct Walkers {
    Walker each[4];
    std::uint64_t calls = 0;

    Walkers(Around via, std::uint64_t depth) {
        each[0].begin<1>(via, depth);
        each[1].begin<100>(via, depth + 1);
        each[2].begin<7>(via, depth + 2);
        each[3].begin<20>(via, depth + 3);
        calls = 4 * (depth + 1) + 6;
    }
    std::uint64_t inside() const {
        std::uint64_t sum = 0;
        for (const Walker& walker : each) sum += walker.inside;
        return sum;
    }
    // Each in its turn, some more often, until all are over; `between` each time that all have stopped.
    template <class F>
    void run(F&& between) {
        for (bool any = true; any;) {
            any = false;
            for (std::size_t i = 0; i < std::size(each); ++i)
                for (std::size_t k = 0; k <= i % 2; ++k)
                    if (!each[i].coroutine->is_over()) any = each[i].coroutine->resume() || any;
            between();
        }
    }
    bool right() const {
        return std::all_of(std::begin(each), std::end(each),
                           [](const Walker& walker) { return walker.result == walker.expected && walker.inside == 0; });
    }
};

class ReturnCoroutines : public ReturnStacks {
protected:
    void SetUp() override {
        if (test::thread_sanitizer || test::address_sanitizer) GTEST_SKIP() << "the sanitizer does not know other stacks";
        ReturnStacks::SetUp();
    }
};

TEST_F(ReturnCoroutines, InterleaveTheirCalls) {
    Seen seen, seen_enter;
    const auto probe = attach_counting(&return_around, seen, 200);
    const auto enter = attach_counting(&Coroutine::enter, seen_enter);
    std::uint64_t calls = 0;
    for (int round = 0; round < 20; ++round) {
        Walkers walkers(&return_around, 10);
        walkers.run([&] { ASSERT_EQ(probe.in_flight(), walkers.inside()); });
        ASSERT_TRUE(walkers.right());
        calls += walkers.calls;
    }
    expect_all_ended(probe, seen, calls);
    expect_all_ended(enter, seen_enter, 80);
}

// More than there are instances: whose stack is lower is no reason to take one away.
TEST_F(ReturnCoroutines, KeepTheirInstancesWhenTheseRunOut) {
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 12);
    Walkers walkers(&return_around, 20);
    walkers.run([&] { ASSERT_LE(probe.in_flight(), 12u); });
    EXPECT_TRUE(walkers.right());
    const ReturnCounts counts = probe.counts();
    EXPECT_EQ(counts.calls, walkers.calls);
    EXPECT_EQ(counts.calls, seen.entries + counts.missed);
    EXPECT_GT(counts.missed, 0u);
    EXPECT_EQ(counts.stale, 0u);
    EXPECT_EQ(seen.returns, seen.entries);
    EXPECT_EQ(seen.strangers, 0u);
    EXPECT_EQ(probe.in_flight(), 0u);
}

// One begins in a thread that ends, goes on in others, and comes to its end in yet another one.
TEST_F(ReturnCoroutines, GoOnInOtherThreads) {
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 200);
    Walkers walkers(&return_around, 10);
    std::thread([&] { ASSERT_TRUE(walkers.each[0].coroutine->resume()); }).join();
    EXPECT_EQ(probe.in_flight(), 1u);
    for (bool more = true; more;) {
        std::thread([&] { more = walkers.each[0].coroutine->resume(); }).join();
        ASSERT_EQ(probe.in_flight(), walkers.inside());
        for (std::size_t i = 1; i < 4; ++i) walkers.each[i].coroutine->resume();
    }
    EXPECT_EQ(walkers.each[0].result, walkers.each[0].expected);
    std::thread([&] { walkers.run([] {}); }).join();
    EXPECT_TRUE(walkers.right());
    expect_all_ended(probe, seen, walkers.calls);
}

TEST_F(ReturnCoroutines, ThrowOnTheirOwnStacks) {
    Seen seen;
    const auto probe = attach_counting(&return_deep, seen, 100);
    int caught = 0;
    std::vector<std::unique_ptr<Coroutine>> all;
    for (std::uint64_t i = 0; i < 5; ++i)
        all.push_back(std::make_unique<Coroutine>([&caught, i](Coroutine& self) {
            auto inside = [&]() -> int {
                self.yield();
                throw i;
            };
            try {
                return_deep(i + 5, &test::call_inside<decltype(inside)>, &inside);
            } catch (const std::uint64_t thrown) {
                caught += thrown == i;
            }
        }));
    for (const auto& each : all) EXPECT_TRUE(each->resume());
    EXPECT_EQ(probe.in_flight(), 40u);
    for (const std::size_t i : {2u, 4u, 0u, 1u, 3u}) EXPECT_FALSE(all[i]->resume());
    EXPECT_EQ(caught, 5);
    EXPECT_EQ(seen.unwinds, 40u);
    expect_all_ended(probe, seen, 40);
}

// Their stacks are unmapped with calls in flight; then others run where they were.
TEST_F(ReturnCoroutines, AreDestroyedInTheMiddle) {
    if (!finds_left_calls) GTEST_SKIP() << not_found;
    Seen seen;
    const auto probe = attach_to_left(&return_deep, seen, 16);
    constexpr int times = 2'000;
    for (int i = 0; i < times; ++i) {
        Coroutine left([](Coroutine& self) {
            auto inside = [&]() -> int {
                self.yield();
                return 0;
            };
            return_deep(9, &test::call_inside<decltype(inside)>, &inside);
        });
        ASSERT_TRUE(left.resume());
        ASSERT_EQ(probe.in_flight(), 10u);
    }
    expect_left(probe, seen, 10 * times, 10 * times);
}

// The control.

struct Hijacked {
    std::uintptr_t word, real;
};
std::vector<Hijacked> hijacked_list;

}  // namespace

extern "C" {
[[gnu::used]] void return_test_hijack(std::uintptr_t* word) {
    const auto at = reinterpret_cast<std::uintptr_t>(word);
    while (!hijacked_list.empty() && hijacked_list.back().word < at) hijacked_list.pop_back();
    hijacked_list.push_back({at, *word});
    extern const char return_test_hijacked[];
    *word = reinterpret_cast<std::uintptr_t>(return_test_hijacked);
}
[[gnu::used]] std::uintptr_t return_test_real_return() {
    if (hijacked_list.empty()) _exit(1);
    const std::uintptr_t real = hijacked_list.back().real;
    hijacked_list.pop_back();
    return real;
}
std::uint64_t return_test_hijacked_around(test::Inside, void*);
}
#if defined(__x86_64__)
asm(".text\n"
    ".type return_test_hijacked_around,@function\n"
    "return_test_hijacked_around:\n"
    "    push %rdi\n"
    "    push %rsi\n"
    "    lea 16(%rsp),%rdi\n"
    "    sub $8,%rsp\n"
    "    call return_test_hijack\n"
    "    add $8,%rsp\n"
    "    pop %rsi\n"
    "    pop %rdi\n"
    "    jmp return_around\n"
    ".size return_test_hijacked_around,.-return_test_hijacked_around\n"
    "return_test_hijacked:\n"
    "    push %rax\n"
    "    push %rax\n"
    "    call return_test_real_return\n"
    "    mov %rax,8(%rsp)\n"
    "    pop %rax\n"
    "    ret\n");
#else
// The return address has no word on the stack; the one that it is put into stands for it.
asm(".text\n"
    ".type return_test_hijacked_around,%function\n"
    "return_test_hijacked_around:\n"
    "    stp x0,x1,[sp,#-32]!\n"
    "    str x30,[sp,#16]\n"
    "    add x0,sp,#16\n"
    "    bl return_test_hijack\n"
    "    ldr x30,[sp,#16]\n"
    "    ldp x0,x1,[sp],#32\n"
    "    b return_around\n"
    ".size return_test_hijacked_around,.-return_test_hijacked_around\n"
    ".globl return_test_hijacked\n"  // of a local one the linker takes the address of its section
    ".hidden return_test_hijacked\n"
    "return_test_hijacked:\n"
    "    str x0,[sp,#-16]!\n"
    "    bl return_test_real_return\n"
    "    mov x30,x0\n"
    "    ldr x0,[sp],#16\n"
    "    ret\n");
#endif

namespace {

TEST_F(ReturnCoroutines, AListInTheOrderOfTheStackIsNoticed) {
    const auto run = [](Around via, bool interleaved) {
        return test::in_child([=] {
            alarm(60);  // who returns to anywhere may stay there
            Walkers walkers(via, 10);
            if (interleaved)
                walkers.run([] {});
            else
                for (Walker& walker : walkers.each)
                    while (walker.coroutine->resume()) {
                    }
            return walkers.right() ? 0 : 1;
        });
    };
    EXPECT_EQ(run(&return_test_hijacked_around, false).status, 0) << "the control itself works";
    EXPECT_NE(run(&return_test_hijacked_around, true).status, 0);
    EXPECT_EQ(run(&return_around, true).status, 0);
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 200);
    EXPECT_EQ(run(&return_around, true).status, 0);
}

// Coroutines of the language: their frames are no stack, and each time that they stop is a return.

struct Steps {
    struct promise_type {
        std::uint64_t sum = 0;
        Steps get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(std::uint64_t value) { sum = value; }
        void unhandled_exception() { std::abort(); }
    };
    std::coroutine_handle<promise_type> handle;
};

[[gnu::noinline]] Steps add_up(std::uint64_t n) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
        sum += around([i] { return i; });
        co_await std::suspend_always();
        try {
            around([]() -> int { throw 1; });
        } catch (int) {
            ++sum;
        }
    }
    co_return sum;
}

TEST_F(ReturnStacks, ACoroutineOfTheLanguageGoesOnInOtherThreads) {
    Steps (*volatile begin)(std::uint64_t) = &add_up;
    Seen seen_begin, seen_resume, seen;
    const auto probe = attach_counting(&return_around, seen);
    const auto begins = attach_counting(&add_up, seen_begin);
    const Steps steps = begin(10);
    EXPECT_EQ(seen_begin.returns, 1u);
    // The first word of the frame is the function that goes on.
    const Address resume = *static_cast<const Address*>(steps.handle.address());
    auto resumes = ReturnProbe<Call>::attach(resume, test::counting(seen_resume));
    ASSERT_TRUE(resumes) << resumes.error().message();
    std::uint64_t times = 0;
    for (; !steps.handle.done(); ++times) {
        if (times % 2 == 0)
            steps.handle.resume();
        else
            std::thread([&] { steps.handle.resume(); }).join();
    }
    EXPECT_EQ(times, 11u);
    EXPECT_EQ(steps.handle.promise().sum, 45u + 10 + 10);
    expect_all_ended(*resumes, seen_resume, times);
    expect_all_ended(probe, seen, 20);
    EXPECT_EQ(seen.unwinds, 10u);
    steps.handle.destroy();
}

}  // namespace
}  // namespace dynfunc
