// SPDX-License-Identifier: MIT
// Wrapped functions: arguments and results wherever the calling convention passes them, and who is inside when a wrap ends.
#include <dynfunc/typed_probe.hpp>
#include <dynfunc/typed_wrap.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <complex>
#include <csetjmp>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <execinfo.h>
#include <signal.h>
#include <unwind.h>

#include <dynfunc/return_probe.hpp>

#include "address_space.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

class TypedWrapTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override;
    void TearDown() override { EXPECT_EQ(test::writable_code(), ""); }
};

struct Small {
    int a;
    float b;
};
struct Pair {
    long a, b;
};
struct Mixed {
    double x;
    long n;
};
struct Doubles {
    double x, y;
};
struct Extended {
    long double x;
};
struct [[gnu::packed]] Packed {
    char c;
    double x;
};
struct Large {
    std::array<long, 5> values;
};
struct alignas(16) Aligned {
    long a;
};
// Copied as bytes, but not assigned so.
struct Assigned {
    long a, b;
    Assigned(long x, long y) : a(x), b(y) {}
    Assigned(const Assigned&) = default;
    Assigned& operator=(const Assigned& other) {
        a = other.a;
        b = other.b + 1;
        return *this;
    }
};
struct Pinned {
    long a;
    explicit Pinned(long x) : a(x) {}
    Pinned(const Pinned&) = delete;
};

#define NOINLINE [[gnu::noinline]]

// Each is called through a pointer that the compiler does not know.
NOINLINE int add(int a, int b) {
    asm volatile("");
    return a + b;
}
int (*volatile call_add)(int, int) = &add;

NOINLINE int noexcept_add(int a, int b) noexcept {
    asm volatile("");
    return a * 100 + b;
}
int (*volatile call_noexcept_add)(int, int) noexcept = &noexcept_add;

NOINLINE void set_to(int& to, int value) {
    asm volatile("");
    to = value + 1;
}
NOINLINE bool is_less(std::int8_t a, unsigned short b) {
    asm volatile("");
    return a < b;
}
NOINLINE const char* skip(const char* text, std::size_t n) {
    asm volatile("");
    return text + n;
}
NOINLINE float half(float x, double y) {
    asm volatile("");
    return x / 2 + static_cast<float>(y);
}
NOINLINE double scale(double x, int n) {
    asm volatile("");
    return x * n + 0.5;
}
NOINLINE long double extend(long double x, int n) {
    asm volatile("");
    return x + n;
}
NOINLINE std::complex<double> turn(std::complex<double> x, double by) {
    asm volatile("");
    return {x.imag() * by, x.real() * by};
}
NOINLINE std::complex<long double> turn_extended(std::complex<long double> x, int n) {
    asm volatile("");
    return x * static_cast<long double>(n);
}
__extension__ using Int128 = __int128;
NOINLINE Int128 wide(Int128 a, long b) {
    asm volatile("");
    return a * b;
}
NOINLINE Small make_small(Small s, int n) {
    asm volatile("");
    return {s.a + n, s.b + 1};
}
NOINLINE Pair make_pair(Pair p, long n) {
    asm volatile("");
    return {p.b + n, p.a - n};
}
NOINLINE Mixed make_mixed(Mixed m, int n) {
    asm volatile("");
    return {m.x + n, m.n * n};
}
NOINLINE Doubles make_doubles(Doubles d, double by) {
    asm volatile("");
    return {d.y * by, d.x * by};
}
NOINLINE Extended make_extended(Extended e, int n) {
    asm volatile("");
    return {e.x * n};
}
NOINLINE Packed make_packed(Packed p, int n) {
    asm volatile("");
    return {static_cast<char>(p.c + n), p.x};
}
NOINLINE Large make_large(Large l, int n) {
    asm volatile("");
    for (long& each : l.values) each += n;
    return l;
}
NOINLINE Aligned make_aligned(Aligned a, int n) {
    asm volatile("");
    return {a.a + n};
}
NOINLINE Assigned make_assigned(Assigned a, int n) {
    asm volatile("");
    return {a.b + n, a.a};
}
NOINLINE Pinned make_pinned(long n) {
    asm volatile("");
    return Pinned(n + 3);
}
NOINLINE std::string repeat(std::string text, int times, const std::string& between) {
    std::string all = text;
    for (int i = 1; i < times; ++i) all += between + text;
    return all;
}
NOINLINE std::unique_ptr<int> owned(std::unique_ptr<int> from, int more) {
    *from += more;
    return from;
}
NOINLINE long five(long a, int b, short c, char d, unsigned e) {
    asm volatile("");
    return a + 10 * b + 100 * c + 1000 * d + 10000L * e;
}
NOINLINE long six(long a, int b, short c, char d, unsigned e, const int* f) {
    asm volatile("");
    return a + 10 * b + 100 * c + 1000 * d + 10000L * e + 100000L * *f;
}
NOINLINE double eight(long a, double x, int b, short c, float y, char d, unsigned e, const int* f, long g, bool h) {
    asm volatile("");
    return static_cast<double>(six(a, b, c, d, e, f)) + x + static_cast<double>(y) + static_cast<double>(g) + (h ? 0.25 : 0);
}
// Five words before it, so that a pair does not fit into registers, but one integer behind it does.
NOINLINE long around_a_gap(long a, long b, long c, long d, long e, Pair p) {
    asm volatile("");
    return a + b + c + d + e + p.a * p.b;
}
NOINLINE Large six_and_large(long a, long b, long c, long d, long e, long f, Large l) {
    asm volatile("");
    l.values[0] += a + b + c + d + e + f;
    return l;
}
// Of every machine: some pass six integers in registers, some eight.
NOINLINE double every_register(long a, long b, long c, long d, long e, long f, long g, long h, double s, double t, double u,
                               double v, double w, double x, double y, double z) {
    asm volatile("");
    return static_cast<double>(a + b + c + d + e + f + g + h) + s + t + u + v + w + x + y + z;
}
NOINLINE double seven_doubles(long a, long b, long c, long d, long e, long f, double s, double t, double u, double v, double w,
                              double x, double y) {
    asm volatile("");
    return static_cast<double>(a + b + c + d + e + f) + s + t + u + v + w + x + y;
}

bool operator==(const Small& a, const Small& b) { return a.a == b.a && a.b == b.b; }
bool operator==(const Pair& a, const Pair& b) { return a.a == b.a && a.b == b.b; }
bool operator==(const Mixed& a, const Mixed& b) { return a.x == b.x && a.n == b.n; }
bool operator==(const Doubles& a, const Doubles& b) { return a.x == b.x && a.y == b.y; }
bool operator==(const Extended& a, const Extended& b) { return a.x == b.x; }
bool operator==(const Packed& a, const Packed& b) { return a.c == b.c && a.x == b.x; }
bool operator==(const Large& a, const Large& b) { return a.values == b.values; }
bool operator==(const Aligned& a, const Aligned& b) { return a.a == b.a; }
bool operator==(const Assigned& a, const Assigned& b) { return a.a == b.a && a.b == b.b; }
bool operator==(const Pinned& a, const Pinned& b) { return a.a == b.a; }

void TypedWrapTest::SetUp() {
    if (const auto wrap = wrap_typed(&add, [](auto original, int a, int b) { return original(a, b); }); !wrap) {
        ASSERT_EQ(wrap.error().code, Errc::text_not_writable) << wrap.error().message();
        GTEST_SKIP() << "this process cannot patch code";
    }
}

// Called as it is, wrapped, and as it is again: the same result; and the wrap has seen the arguments.
template <class R, class... A, class Make>
void expect_same(const char* name, R (*function)(A...), const Make& call_with) {
    R (*volatile hidden)(A...) = function;
    const auto call = [&hidden](auto&&... arguments) -> R { return hidden(std::forward<decltype(arguments)>(arguments)...); };
    const R expected = call_with(call);
    int seen = 0;
    auto wrap = wrap_typed(function, [&seen](auto original, A... arguments) -> R {
        ++seen;
        return original(std::forward<A>(arguments)...);
    });
    ASSERT_TRUE(wrap) << name << ": " << wrap.error().message();
    for (int i = 0; i < 3; ++i) {
        const R result = call_with(call);
        EXPECT_TRUE(result == expected) << name;
    }
    EXPECT_EQ(seen, 3) << name;
    EXPECT_EQ(wrap->calls(), 3u) << name;
    wrap->detach();
    const R after = call_with(call);
    EXPECT_TRUE(after == expected) << name;
    EXPECT_EQ(seen, 3) << name;
}
#define EXPECT_SAME(function, ...) expect_same(#function, &function, [&](const auto& call) { return call(__VA_ARGS__); })

TEST_F(TypedWrapTest, EveryKindOfArgumentAndResult) {
    const int six_times = 6;
    EXPECT_SAME(add, 3, -4);
    EXPECT_SAME(is_less, std::int8_t{-5}, static_cast<unsigned short>(65535));
    EXPECT_SAME(skip, "abc", std::size_t{1});
    EXPECT_SAME(half, 3.5f, -1e10);
    EXPECT_SAME(scale, 1.25, 7);
    EXPECT_SAME(extend, 1.0L / 3, 5);
    EXPECT_SAME(turn, std::complex<double>(1, 2), 3.0);
    EXPECT_SAME(turn_extended, std::complex<long double>(1.5L, 2.5L), 3);
    EXPECT_SAME(wide, static_cast<Int128>(1) << 70, -3L);
    EXPECT_SAME(make_small, Small{1, 2.5f}, 3);
    EXPECT_SAME(make_pair, Pair{1, 2}, 3L);
    EXPECT_SAME(make_mixed, Mixed{1.5, 2}, 3);
    EXPECT_SAME(make_doubles, Doubles{1.5, 2.5}, 3.0);
    EXPECT_SAME(make_extended, Extended{1.5L}, 3);
    EXPECT_SAME(make_packed, Packed{'a', 2.5}, 1);
    EXPECT_SAME(make_large, Large{{1, 2, 3, 4, 5}}, 3);
    EXPECT_SAME(make_aligned, Aligned{4}, 3);
    EXPECT_SAME(make_assigned, Assigned(4, 5), 3);
    EXPECT_SAME(make_pinned, 4L);
    EXPECT_SAME(repeat, std::string(40, 'x'), 3, std::string("--"));
    EXPECT_SAME(five, 1L, 2, short{3}, char{4}, 5u);
    EXPECT_SAME(six, 1L, 2, short{3}, char{4}, 5u, &six_times);
    EXPECT_SAME(eight, 1L, 0.5, 2, short{3}, 2.25f, char{4}, 5u, &six_times, -3L, true);
    EXPECT_SAME(around_a_gap, 1L, 2L, 3L, 4L, 5L, Pair{6, 7});
    EXPECT_SAME(six_and_large, 1L, 2L, 3L, 4L, 5L, 6L, Large{{1, 2, 3, 4, 5}});
    EXPECT_SAME(seven_doubles, 1L, 2L, 3L, 4L, 5L, 6L, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5);
}

TEST_F(TypedWrapTest, ArgumentsThatOnlyMoveAndReferences) {
    auto(*volatile call)(std::unique_ptr<int>, int)->std::unique_ptr<int> = &owned;
    auto wrap = wrap_typed(&owned, [](auto original, std::unique_ptr<int> from, int more) {
        *from *= 2;
        return original(std::move(from), more);
    });
    ASSERT_TRUE(wrap) << wrap.error().message();
    EXPECT_EQ(*call(std::make_unique<int>(4), 1), 9);

    void (*volatile set)(int&, int) = &set_to;
    auto wrap_set = wrap_typed(&set_to, [](auto original, int& to, int value) { original(to, 10 * value); });
    ASSERT_TRUE(wrap_set) << wrap_set.error().message();
    int to = 0;
    set(to, 4);
    EXPECT_EQ(to, 41);
}

TEST_F(TypedWrapTest, MayCallTheOriginalSeveralTimesOrNotAtAll) {
    auto wrap = wrap_typed(&add, [](auto original, int a, int b) { return a < 0 ? -1 : original(a, b) + original(b, 100); });
    ASSERT_TRUE(wrap) << wrap.error().message();
    EXPECT_EQ(call_add(3, 4), 111);
    EXPECT_EQ(call_add(-3, 4), -1);
    EXPECT_EQ(wrap->calls(), 2u);
    *wrap = TypedWrap();
    EXPECT_EQ(call_add(3, 4), 7);
    auto with_function = wrap_typed(&noexcept_add, [](auto original, int a, int b) noexcept { return original(b, a); });
    ASSERT_TRUE(with_function) << with_function.error().message();
    EXPECT_EQ(call_noexcept_add(1, 2), 201);
}

NOINLINE int throws(int n) {
    if (n > 2) throw std::runtime_error("original " + std::to_string(n));
    return n;
}
int (*volatile call_throws)(int) = &throws;

std::string caught(int n) {
    try {
        return std::to_string(call_throws(n));
    } catch (const std::exception& e) {
        return e.what();
    }
}

TEST_F(TypedWrapTest, ExceptionsPass) {
    const auto alive = std::make_shared<int>(0);
    auto wrap = wrap_typed(&throws, [alive](auto original, int n) {
        if (n == 1) throw std::runtime_error("around");
        if (n == 9) {
            try {
                return original(n);
            } catch (const std::runtime_error&) {
                return 99;
            }
        }
        return original(n);
    });
    ASSERT_TRUE(wrap) << wrap.error().message();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(caught(0), "0");
        EXPECT_EQ(caught(1), "around");
        EXPECT_EQ(caught(5), "original 5");
        EXPECT_EQ(caught(9), "99");
    }
    EXPECT_EQ(wrap->calls(), 12u);
    wrap->detach();
    EXPECT_EQ(alive.use_count(), 1);  // who left by an exception has left
    EXPECT_EQ(caught(1), "1");
}

NOINLINE long factorial(int n);
long (*volatile call_factorial)(int) = &factorial;
NOINLINE long factorial(int n) { return n <= 1 ? 1 : n * call_factorial(n - 1); }

TEST_F(TypedWrapTest, Recursion) {
    int depth = 0, deepest = 0;
    auto wrap = wrap_typed(&factorial, [&](auto original, int n) {
        deepest = std::max(deepest, ++depth);
        const long result = original(n);
        --depth;
        return result;
    });
    ASSERT_TRUE(wrap) << wrap.error().message();
    EXPECT_EQ(call_factorial(10), 3628800);
    EXPECT_EQ(deepest, 10);
    EXPECT_EQ(wrap->calls(), 10u);
}

TEST_F(TypedWrapTest, DetachFromInside) {
    const auto alive = std::make_shared<int>(0);
    TypedWrap wrap;
    auto made = wrap_typed(&add, [alive, &wrap](auto original, int a, int b) {
        wrap.detach();
        EXPECT_GE(alive.use_count(), 2);  // what runs here stays
        return original(a, b) + 1000;
    });
    ASSERT_TRUE(made) << made.error().message();
    wrap = std::move(*made);
    EXPECT_EQ(call_add(1, 2), 1003);
    EXPECT_EQ(call_add(1, 2), 3);
    EXPECT_EQ(alive.use_count(), 2);
    // Any later one sees to it.
    static_cast<void>(wrap_typed(&add, [](auto original, int a, int b) { return original(a, b); }));
    EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(TypedWrapTest, WhoIsInsideStaysInside) {
    const auto alive = std::make_shared<int>(0);
    std::atomic<bool> is_inside{false}, may_leave{false};
    auto wrap = wrap_typed(&add, [&, alive](auto original, int a, int b) {
        is_inside = true;
        while (!may_leave) std::this_thread::yield();
        return original(a, b) + static_cast<int>(alive.use_count()) * 0;
    });
    ASSERT_TRUE(wrap) << wrap.error().message();
    std::atomic<int> result{0};
    std::thread other([&] { result = call_add(20, 3); });
    while (!is_inside) std::this_thread::yield();
    wrap->detach();
    EXPECT_EQ(alive.use_count(), 2);
    // Others come and go meanwhile, at the same place too.
    for (int i = 0; i < 5; ++i) {
        auto later = wrap_typed(&add, [](auto original, int a, int b) { return original(a, b) + 1; });
        ASSERT_TRUE(later) << later.error().message();
        EXPECT_EQ(call_add(1, 2), 4);
        EXPECT_EQ(alive.use_count(), 2);
    }
    EXPECT_EQ(result, 0);
    may_leave = true;
    other.join();
    EXPECT_EQ(result, 23);
    EXPECT_EQ(alive.use_count(), 2);
    auto next = wrap_typed(&add, [](auto original, int a, int b) { return original(a, b) + 2; });
    EXPECT_EQ(alive.use_count(), 1);
    EXPECT_EQ(call_add(1, 2), 5);
}

TEST_F(TypedWrapTest, WithoutWaiting) {
    const auto alive = std::make_shared<int>(0);
    auto wrap = wrap_typed(&add, [alive](auto original, int a, int b) { return original(a, b); });
    ASSERT_TRUE(wrap) << wrap.error().message();
    call_add(1, 2);
    wrap->detach_nosync();
    EXPECT_FALSE(*wrap);
    EXPECT_EQ(alive.use_count(), 2);
    synchronize();
    EXPECT_EQ(alive.use_count(), 1);
    auto in_section = wrap_typed(&add, [alive](auto original, int a, int b) { return original(a, b); });
    {
        const ReadSection section;
        in_section->detach();
        EXPECT_EQ(alive.use_count(), 2);
    }
    synchronize();
    EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(TypedWrapTest, Refusals) {
    const auto pass = [](auto original, auto... arguments) { return original(arguments...); };
    const auto code = [](const auto& refused) { return refused ? Errc{} : refused.error().code; };
    const auto keep = [](ProbeHit&) { return AfterHit::keep; };
    {
        const auto wrap = wrap_typed(&add, pass);
        ASSERT_TRUE(wrap) << wrap.error().message();
        EXPECT_EQ(code(wrap_typed(&add, pass)), Errc::patched_place);
        EXPECT_EQ(code(wrap_typed(&add, [](auto, int, int) { return 0; })), Errc::patched_place);
        const auto probe = Probe::attach(&add, {.on_hit = keep});
        ASSERT_FALSE(probe);
        EXPECT_EQ(probe.error().code, Errc::patched_place);
        EXPECT_GT(probe.error().code_size, 0);
        EXPECT_EQ(code(ReturnProbe<>::attach(&add, {.on_return = [](NoCallData&, Registers&) {}})), Errc::patched_place);
        EXPECT_EQ(call_add(1, 2), 3);
    }
    {
        auto probe = Probe::attach(&add, {.on_hit = keep});
        ASSERT_TRUE(probe) << probe.error().message();
        EXPECT_EQ(code(wrap_typed(&add, pass)), Errc::patched_place);
        probe->detach();
        auto wrap = wrap_typed(&add, pass);
        ASSERT_TRUE(wrap) << wrap.error().message();
        wrap->detach();
        probe = Probe::attach(&add, {.on_hit = keep});
        ASSERT_TRUE(probe) << probe.error().message();
        EXPECT_EQ(call_add(1, 2), 3);
        EXPECT_EQ(probe->hits(), 1u);
    }
    EXPECT_EQ(code(wrap_typed(&every_register, pass)), Errc::no_free_register);
    EXPECT_EQ(code(wrap_typed(&_setjmp, [](auto, __jmp_buf_tag*) { return 0; })), Errc::denied);
    int data = 0;
    EXPECT_EQ(code(wrap_typed(reinterpret_cast<void (*)()>(&data), pass)), Errc::not_executable);
    EXPECT_EQ(code(wrap_typed(reinterpret_cast<void (*)()>(reinterpret_cast<std::uintptr_t>(&factorial) + 1), pass)),
              Errc::not_a_function);
    EXPECT_EQ(call_factorial(4), 24);
}

// The unwinder finds the caller from the thunk on: through the wrapper into the original.
NOINLINE int depth_of_stack() {
    std::array<void*, 200> frames;
    return backtrace(frames.data(), static_cast<int>(frames.size()));
}
int (*volatile call_depth)() = &depth_of_stack;

TEST_F(TypedWrapTest, StacksCanBeWalked) {
    const int before = call_depth();
    auto wrap = wrap_typed(&depth_of_stack, [](auto original) {
        const int depth = original();
        asm volatile("");
        return depth;
    });
    ASSERT_TRUE(wrap) << wrap.error().message();
    const int wrapped = call_depth();
    EXPECT_GT(wrapped, before);
    EXPECT_LE(wrapped, before + 3);
}

#if defined(__x86_64__)
// The same from a signal handler at every instruction of a call, those of the thunk and of the copy among them.
NOINLINE int call_stepping(int a, int b) {
    asm volatile("lea -128(%%rsp),%%rsp; pushfq; orq $0x100,(%%rsp); popfq; lea 128(%%rsp),%%rsp" ::: "cc", "memory");
    const int sum = call_add(a, b);
    asm volatile("lea -128(%%rsp),%%rsp; pushfq; andq $~0x100,(%%rsp); popfq; lea 128(%%rsp),%%rsp" ::: "cc", "memory");
    return sum;
}
int (*volatile call_call_stepping)(int, int) = &call_stepping;
volatile int steps = 0, lost_steps = 0;
volatile std::uintptr_t lost_at = 0;  // where the last one was

bool is_in_call_stepping(std::uintptr_t at) {
    // It is asked for return addresses, as a rule: of those the byte before counts.
    return _Unwind_FindEnclosingFunction(reinterpret_cast<void*>(at + 1)) == reinterpret_cast<void*>(&call_stepping);
}

void on_step(int, siginfo_t*, void* interrupted) {
    const auto& registers = static_cast<const ucontext_t*>(interrupted)->uc_mcontext.gregs;
    // There the stack pointer is not where the compiler put it.
    if (is_in_call_stepping(static_cast<std::uintptr_t>(registers[REG_RIP]))) return;
    bool is_found = false;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* found) {
            int is_interrupted = 0;
            const std::uintptr_t at = _Unwind_GetIPInfo(context, &is_interrupted);
            if (is_in_call_stepping(at - (is_interrupted != 0 ? 0 : 1))) *static_cast<bool*>(found) = true;
            return _URC_NO_REASON;
        },
        &is_found);
    steps = steps + 1;
    if (is_found) return;
    lost_steps = lost_steps + 1;
    lost_at = static_cast<std::uintptr_t>(registers[REG_RIP]);
}

TEST_F(TypedWrapTest, StacksCanBeWalkedAtEveryInstruction) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports walks in signal handlers";
    auto wrap = wrap_typed(&add, [](auto original, int a, int b) { return original(a, b) + 5; });
    ASSERT_TRUE(wrap) << wrap.error().message();
    struct sigaction action {
    }, before{};
    action.sa_sigaction = &on_step;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, &before);
    for (int round = 0; round < 2; ++round) {
        steps = 0;
        lost_steps = 0;
        EXPECT_EQ(call_call_stepping(1, 2), round == 0 ? 8 : 3);
        EXPECT_GE(steps, round == 0 ? 30 : 2);
        // A jump of a given distance leads to a second one, of which no unwinder knows: as it is with probes.
        EXPECT_LE(lost_steps, round == 0 ? 1 : 0) << "of " << steps << ", the last at " << std::hex << lost_at
                                                  << ", begin of the function: " << Address::of(&add).value;
        wrap->detach();
    }
    sigaction(SIGTRAP, &before, nullptr);
}
#endif

// Whatever moment a call comes in, it is a whole call of one or the other.
TEST_F(TypedWrapTest, ComesAndGoesWhileThreadsCall) {
    constexpr int threads = 3;
    std::atomic<bool> stopped{false};
    std::atomic<long> wrong{0}, calls{0}, wrapped{0};
    std::vector<std::thread> callers;
    for (int number = 0; number < threads; ++number)
        callers.emplace_back([&, number] {
            long made = 0;
            for (int i = number; !stopped; ++i) {
                i &= 0xffff;
                if (const int sum = call_add(i, 7); sum != i + 7 && sum != i + 7 + (1 << 20)) ++wrong;
                const Large large = make_large({{i, 2, 3, 4, 5}}, 1);
                if (large.values[0] != i + 1 || large.values[4] != 6) ++wrong;
                try {
                    if (call_throws(i % 5) != i % 5 || i % 5 > 2) ++wrong;
                } catch (const std::runtime_error&) {
                    if (i % 5 <= 2) ++wrong;
                }
                ++made;
            }
            calls += made;
        });
    struct Counting {
        std::atomic<long>& alive;
        explicit Counting(std::atomic<long>& count) : alive(count) { ++alive; }
        Counting(const Counting& other) : Counting(other.alive) {}
        ~Counting() { --alive; }
    };
    std::atomic<long> alive{0};
    for (int i = 0; i < test::rounds(2000); ++i) {
        auto one = wrap_typed(&add, [&, counting = Counting(alive)](auto original, int a, int b) {
            if (counting.alive <= 0) ++wrong;
            wrapped.fetch_add(1, std::memory_order_relaxed);
            return original(a, b) + (1 << 20);
        });
        auto two = wrap_typed(
            &make_large, [counting = Counting(alive)](auto original, Large l, int n) { return original(std::move(l), n); });
        auto three = wrap_typed(&throws, [counting = Counting(alive)](auto original, int n) { return original(n); });
        ASSERT_TRUE(one && two && three);
        if (i % 16 == 0) std::this_thread::yield();
        if (i % 3 == 0) one->detach_nosync();
    }
    stopped = true;
    for (auto& caller : callers) caller.join();
    synchronize();
    {
        const auto last = wrap_typed(&add, [](auto original, int a, int b) { return original(a, b); });
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(alive, 0);
    EXPECT_GT(calls, 0);
    EXPECT_GT(wrapped, 0);
}

}  // namespace
}  // namespace dynfunc
