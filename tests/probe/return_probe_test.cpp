// SPDX-License-Identifier: MIT
// What a user of return probes relies on: what handlers see and may change, in which order they are called, what is counted,
// what is refused and why, and how long things live. (Exceptions and walks of the stack: return_unwind_test.cpp; longjmp and
// stacks that are not the thread's: return_stacks_test.cpp; registers: return_registers_test.cpp.)
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dynfunc/object_pool.hpp>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <thread>

#include "child.hpp"
#include "guarded_page.hpp"
#include "returns.hpp"

extern "C" {
void returns_at_once();  // probe_functions_<machine>.S: a breakpoint or nothing
int walk_all(int), walk_add(int, int);
void _start();  // NOLINT: the linker's name
// gdb_probe.py stops here.
[[gnu::noinline]] void return_test_breakpoint() { asm volatile(""); }
[[gnu::noinline]] std::uint64_t return_test_caller(std::uint64_t x) {
    return_test_breakpoint();
    const std::uint64_t result = dynfunc::test::return_twice(x);
    asm volatile("" : : : "memory");
    return result + 1;
}
}

namespace dynfunc {
namespace {

using test::around;
using test::attach_counting;
using test::bytes_at;
using test::Call;
using test::Chain;
using test::counting;
using test::return_around;
using test::return_half;
using test::return_sum;
using test::return_tail_around;
using test::return_tail_deep;
using test::return_tail_first;
using test::return_tail_second;
using test::return_twice;
using test::Seen;

class ReturnProbeTest : public test::Returns {};

TEST_F(ReturnProbeTest, EachCallHasItsData) {
    struct Log {
        std::vector<std::uint64_t> entries, returns;
    } log;
    struct Data {
        Log* log;
        std::uint64_t n;
    };
    const auto probe = ReturnProbe<Data>::attach(&return_sum, {.on_entry =
                                                                   [](Data& data, Registers& registers) {
                                                                       data.n = registers.integer(0);
                                                                       data.log->entries.push_back(data.n);
                                                                       return Track::track;
                                                                   },
                                                               .on_return =
                                                                   [](Data& data, Registers& registers) {
                                                                       EXPECT_EQ(registers.result(), data.n * (data.n + 1) / 2);
                                                                       data.log->returns.push_back(data.n);
                                                                   },
                                                               .on_create = [&log](Data& data) { data.log = &log; }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_sum(20), 210u);
    ASSERT_EQ(log.entries.size(), 21u);
    ASSERT_EQ(log.returns.size(), 21u);
    for (std::uint64_t i = 0; i <= 20; ++i) {
        EXPECT_EQ(log.entries[i], 20 - i);
        EXPECT_EQ(log.returns[i], i);
    }
    EXPECT_EQ(probe->counts().calls, 21u);
    EXPECT_EQ(probe->counts().missed + probe->counts().unwound + probe->counts().stale, 0u);
    EXPECT_EQ(probe->in_flight(), 0u);
    ASSERT_EQ(probe->probes().size(), 1u);
    EXPECT_EQ(probe->probes()[0].hits(), 21u);
    EXPECT_EQ(probe->probes()[0].info().at, Address::of(&return_sum));
}

TEST_F(ReturnProbeTest, EachHandlerAloneIsEnough) {
    static int entries, returns;
    entries = returns = 0;
    const auto only_entry = ReturnProbe<>::attach(&return_twice, {.on_entry = [](NoCallData&, Registers&) {
        ++entries;
        return Track::track;
    }});
    const auto only_return = ReturnProbe<>::attach(&return_twice, {.on_return = [](NoCallData&, Registers& registers) {
        EXPECT_EQ(registers.result(), 14u);
        ++returns;
    }});
    const auto only_unwind = ReturnProbe<>::attach(&return_twice, {.on_unwind = [](NoCallData&) { FAIL(); }});
    ASSERT_TRUE(only_entry && only_return && only_unwind);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(return_twice(7), 14u);
    EXPECT_EQ(entries, 10);
    EXPECT_EQ(returns, 10);
    for (const auto* probe : {&only_entry, &only_return, &only_unwind}) {
        EXPECT_EQ((*probe)->counts().calls, 10u);
        EXPECT_EQ((*probe)->in_flight(), 0u);
    }
}

TEST_F(ReturnProbeTest, SkippedCallsReturnUnseen) {
    static int entries, returns;
    entries = returns = 0;
    const auto probe =
        ReturnProbe<std::uint64_t>::attach(&return_twice, {.on_entry =
                                                               [](std::uint64_t& n, Registers& registers) {
                                                                   ++entries;
                                                                   n = registers.integer(0);
                                                                   return n % 3 == 0 ? Track::track : Track::skip;
                                                               },
                                                           .on_return =
                                                               [](std::uint64_t& n, Registers&) {
                                                                   EXPECT_EQ(n % 3, 0u);
                                                                   ++returns;
                                                               },
                                                           .max_active = 1});
    ASSERT_TRUE(probe) << probe.error().message();
    for (std::uint64_t i = 0; i < 30; ++i) EXPECT_EQ(return_twice(i), 2 * i);
    EXPECT_EQ(entries, 30);
    EXPECT_EQ(returns, 10);
    EXPECT_EQ(probe->counts().calls, 30u);
    EXPECT_EQ(probe->counts().missed, 0u) << "what is skipped gives its instance back";
    EXPECT_EQ(probe->in_flight(), 0u);
}

TEST_F(ReturnProbeTest, CallsInFlightAreCounted) {
    Seen seen;
    const auto probe = attach_counting(&return_around, seen);
    EXPECT_EQ(probe.in_flight(), 0u);
    EXPECT_EQ(around([&] {
                  EXPECT_EQ(probe.in_flight(), 1u);
                  const auto inner = around([&] { return probe.in_flight(); });
                  EXPECT_EQ(probe.in_flight(), 1u);
                  return inner;
              }),
              4u);
    test::expect_all_ended(probe, seen, 2);
}

// Results.

Result<ReturnProbe<>> attach(const ProbeTarget& target, void (*on_return)(NoCallData&, Registers&)) {
    auto probe = ReturnProbe<>::attach(target, {.on_return = on_return});
    EXPECT_TRUE(probe) << probe.error().message();
    return probe;
}

TEST_F(ReturnProbeTest, ResultsBecomeWhatTheHandlerMakesThem) {
    {
        const auto probe = attach(&return_twice, [](NoCallData&, Registers& registers) {
            EXPECT_EQ(registers.result(), 10u);
            registers.result() = ~std::uint64_t{5};
        });
        EXPECT_EQ(return_twice(5), ~std::uint64_t{5});
    }
    EXPECT_EQ(return_twice(5), 10u);
    {
        const auto probe = attach(&test::returns_two_words, [](NoCallData&, Registers& registers) {
            std::swap(registers.result(0), registers.result(1));
        });
        const auto [a, b] = test::returns_two_words(10, 20);
        EXPECT_EQ(a, 22u);
        EXPECT_EQ(b, 11u);
    }
    {
        const auto probe = attach(&return_half, [](NoCallData&, Registers& registers) {
            EXPECT_EQ(registers.floating(0), 2.5);
            registers.floating(0) = -1.75;
        });
        EXPECT_EQ(return_half(5), -1.75);
    }
    {
        const auto probe = attach(&test::returns_two_doubles, [](NoCallData&, Registers& registers) {
            std::swap(registers.floating(0), registers.floating(1));
        });
        const auto [x, y] = test::returns_two_doubles(8, 4);
        EXPECT_EQ(x, 1);
        EXPECT_EQ(y, 4);
    }
    {
        const auto probe =
            attach(&test::returns_float, [](NoCallData&, Registers& registers) { registers.floating<float>(0) *= 2; });
        EXPECT_EQ(test::returns_float(1.5f, 2.5), 8.0f);
    }
}

// Other machines return what is neither wholly floating nor small elsewhere, and keep the address of a result in memory for
// themselves.
template <class R>
concept OfSystemV = requires(R registers) {
    registers.rax;
};

TEST_F(ReturnProbeTest, ResultsInBothKindsOfRegistersAndInMemoryBecomeWhatTheHandlerMakesThem) {
    if (!OfSystemV<Registers>) GTEST_SKIP() << "this machine's calling convention returns neither so";
    {
        const auto probe = attach(&test::returns_mixed, [](NoCallData&, Registers& registers) {
            registers.floating(0) += 100;
            registers.result() += 1000;
        });
        const auto [x, n] = test::returns_mixed({1.5, 5}, 2);
        EXPECT_EQ(x, 103.5);
        EXPECT_EQ(n, 1004);
    }
    {
        // In memory; its address is the result.
        const auto probe = attach(&test::returns_large, [](NoCallData&, Registers& registers) {
            reinterpret_cast<test::Large*>(registers.result())->words[8] = 77;
        });
        const test::Large large = test::returns_large({{1, 2, 3, 4, 5, 6, 7, 8, 9}}, 2, {});
        EXPECT_EQ(large.words[7], 16u);
        EXPECT_EQ(large.words[8], 77u);
    }
}

TEST_F(ReturnProbeTest, ArgumentsBecomeWhatTheHandlerMakesThem) {
    const auto probe = ReturnProbe<>::attach(&return_twice, {.on_entry = [](NoCallData&, Registers& registers) {
        registers.integer(0) += 100;
        return Track::skip;
    }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_twice(1), 202u);
}

// Needs::registers: the handlers touch no vector register.
struct WithoutVectors {
    std::uint64_t argument, result;
    std::uint64_t* sum;
};
[[gnu::target("general-regs-only")]] Track enter_without_vectors(WithoutVectors& data, Registers& registers) {
    data.argument = registers.integer(0);
    return Track::track;
}
[[gnu::target("general-regs-only")]] void leave_without_vectors(WithoutVectors& data, Registers& registers) {
    *data.sum += registers.result() - data.argument;
    registers.result() += 1;
}
TEST_F(ReturnProbeTest, HandlersWithoutVectorRegisters) {
    std::uint64_t sum = 0;
    const auto probe =
        ReturnProbe<WithoutVectors>::attach(&return_twice, {.on_entry = &enter_without_vectors,
                                                            .on_return = &leave_without_vectors,
                                                            .on_create = [&](WithoutVectors& data) { data.sum = &sum; },
                                                            .needs = Needs::registers});
    ASSERT_TRUE(probe) << probe.error().message();
    for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(return_twice(i), 2 * i + 1);
    EXPECT_EQ(sum, 45u);
}

TEST_F(ReturnProbeTest, WhatOnReturnWritesToWhereTheThreadGoesOnIsIgnored) {
    const auto probe = ReturnProbe<>::attach(&return_twice, {.on_return = [](NoCallData&, Registers& registers) {
        registers.stack_pointer() += 64;
        registers.instruction_pointer() = 8;
    }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_twice(4), 8u);
    EXPECT_EQ(probe->counts().calls, 1u);
    EXPECT_EQ(probe->in_flight(), 0u);
}

TEST_F(ReturnProbeTest, ACallThatIsMadeNotToRunIsNotTracked) {
    static int returns;
    returns = 0;
    const auto probe = ReturnProbe<>::attach(&return_twice, {.on_entry =
                                                                 [](NoCallData&, Registers& registers) {
                                                                     registers.return_now(99);
                                                                     return Track::track;
                                                                 },
                                                             .on_return = [](NoCallData&, Registers&) { ++returns; },
                                                             .max_active = 2});
    ASSERT_TRUE(probe) << probe.error().message();
    for (int i = 0; i < 10; ++i) EXPECT_EQ(return_twice(4), 99u);
    EXPECT_EQ(returns, 0);
    EXPECT_EQ(probe->counts().calls, 10u);
    EXPECT_EQ(probe->counts().missed, 0u);
    EXPECT_EQ(probe->in_flight(), 0u);
}

// Another handler of the same function, called before or after, decides that it does not run, or that something else does.
TEST_F(ReturnProbeTest, ACallThatAnotherProbePreventsOrLeadsAwayLeavesNothingBehind) {
    const auto prevent = [](ProbeHit& hit) {
        hit.registers.return_now(99);
        return AfterHit::keep;
    };
    const auto lead_away = [](ProbeHit& hit) {
        hit.registers.instruction_pointer() = reinterpret_cast<std::uintptr_t>(&return_tail_second);
        return AfterHit::keep;
    };
    for (const auto& [handler, result] : {std::pair<AfterHit (*)(ProbeHit&), std::uint64_t>{prevent, 99}, {lead_away, 9}}) {
        for (const int priority : {-5, 5}) {
            Seen seen;
            auto options = counting(seen, 2);
            options.on_entry = [](Call& call, Registers&) {
                ++call.seen->entries;
                return Track::track;
            };
            options.on_return = [](Call& call, Registers&) { ++call.seen->returns; };
            const auto probe = ReturnProbe<Call>::attach(&return_twice, options);
            const auto other = Probe::attach(&return_twice, {.on_hit = handler, .priority = priority});
            ASSERT_TRUE(probe && other);
            for (int i = 0; i < 10; ++i) ASSERT_EQ(return_twice(4), result) << "priority " << priority;
            EXPECT_EQ(probe->in_flight(), 0u);
            EXPECT_EQ(probe->counts().missed, 0u) << "result " << result << ", priority " << priority;
            EXPECT_EQ(seen.unwinds, 0u);
            EXPECT_EQ(other->hits(), 10u);
        }
    }
    EXPECT_EQ(return_twice(4), 8u);
}

// Several.

struct Letter {
    std::string* text;
    char letter;
};
ReturnOptions<Letter> writing(std::string& text, char letter, int priority = 0) {
    return {.on_entry =
                [](Letter& data, Registers&) {
                    *data.text += data.letter;
                    return Track::track;
                },
            .on_return = [](Letter& data, Registers&) { *data.text += static_cast<char>(data.letter - 'a' + 'A'); },
            .on_unwind = [](Letter& data) { *data.text += '!'; },
            .on_create =
                [&text, letter](Letter& data) {
                    data = {&text, letter};
                },
            .priority = priority};
}

TEST_F(ReturnProbeTest, ReturnsComeInTheReverseOrder) {
    std::string text;
    const auto entry_only = [](ProbeHit& hit) {
        *static_cast<std::string*>(hit.data) += 'x';
        return AfterHit::keep;
    };
    auto c = ReturnProbe<Letter>::attach(&return_twice, writing(text, 'c', 5));
    auto e = ReturnProbe<Letter>::attach(&return_twice, writing(text, 'e', -1));
    auto a = ReturnProbe<Letter>::attach(&return_twice, writing(text, 'a', 10));
    auto d = ReturnProbe<Letter>::attach(&return_twice, writing(text, 'd', 5));
    auto x = Probe::attach(&return_twice, {.on_hit = entry_only, .data = &text, .priority = 7});
    ASSERT_TRUE(a && c && d && e && x);
    EXPECT_EQ(return_twice(3), 6u);
    EXPECT_EQ(text, "axcdeEDCA");
    text.clear();
    c->detach();
    EXPECT_EQ(return_twice(3), 6u);
    EXPECT_EQ(text, "axdeEDA");
    text.clear();
    x->detach();
    a->detach();
    EXPECT_EQ(return_twice(3), 6u);
    EXPECT_EQ(text, "deED");
    for (const auto* probe : {&d, &e}) EXPECT_EQ((*probe)->in_flight(), 0u);
}

// Each set of three is detached, in each order, in the middle of a call that all three track; a new one does not see it end.
TEST_F(ReturnProbeTest, DetachedWhileACallIsInFlight) {
    for (unsigned set = 0; set < 8; ++set) {
        for (const bool backwards : {false, true}) {
            std::string text;
            std::vector<ReturnProbe<Letter>> probes;
            for (int i = 0; i < 3; ++i)
                probes.push_back(*ReturnProbe<Letter>::attach(&return_around, writing(text, static_cast<char>('a' + i), -i)));
            ReturnProbe<Letter> late;
            EXPECT_EQ(around([&] {
                          for (unsigned k = 0; k < 3; ++k) {
                              const unsigned i = backwards ? 2 - k : k;
                              if ((set >> i & 1) != 0) probes[i].detach();
                          }
                          late = *ReturnProbe<Letter>::attach(&return_around, writing(text, 'z', -9));
                          for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), probe ? 1u : 0u);
                          EXPECT_EQ(late.in_flight(), 0u);
                          return 41;
                      }),
                      42u);
            std::string expected = "abc";
            for (int i = 2; i >= 0; --i)
                if ((set >> i & 1) == 0) expected += static_cast<char>('A' + i);
            EXPECT_EQ(text, expected) << "detached: " << set;
            text.clear();
            EXPECT_EQ(around([] { return 1; }), 2u);
            expected.clear();
            for (int i = 0; i < 3; ++i)
                if ((set >> i & 1) == 0) expected += static_cast<char>('a' + i);
            expected += "zZ";
            for (int i = 2; i >= 0; --i)
                if ((set >> i & 1) == 0) expected += static_cast<char>('A' + i);
            EXPECT_EQ(text, expected);
            for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), 0u);
        }
    }
}

TEST_F(ReturnProbeTest, DetachingDoesNotWaitForACallInFlight) {
    Seen first, second;
    ReturnProbe<Call> before = attach_counting(&return_around, first);
    std::atomic<bool> is_inside{false}, may_leave{false};
    std::uint64_t result = 0;
    std::thread calling([&] {
        result = around([&] {
            is_inside = true;
            while (!may_leave) std::this_thread::yield();
            return 1;
        });
    });
    while (!is_inside) std::this_thread::yield();
    EXPECT_EQ(before.in_flight(), 1u);
    before.detach();
    const ReturnProbe<Call> after = attach_counting(&return_around, second);
    EXPECT_EQ(after.in_flight(), 0u);
    may_leave = true;
    calling.join();
    EXPECT_EQ(result, 2u);
    EXPECT_EQ(first.ends(), 0u);
    EXPECT_EQ(second.entries, 0u);
    EXPECT_EQ(second.ends(), 0u);
}

TEST_F(ReturnProbeTest, OneOverSeveralFunctionsSharesItsInstances) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen, 4);
    EXPECT_EQ(probe.max_active(), 4u);
    const auto end = [&] { return probe.in_flight(); };
    for (const std::size_t depth : {std::size_t{1}, std::size_t{4}, std::size_t{10}}) {
        Chain chain(depth, end);
        EXPECT_EQ(chain.call(), depth + std::min<std::size_t>(depth, 4)) << "in flight";
    }
    EXPECT_EQ(seen.entries, 1u + 4u + 4u);
    EXPECT_EQ(seen.returns, seen.entries);
    EXPECT_EQ(probe.counts().calls, 15u);
    EXPECT_EQ(probe.counts().missed, 6u);
    ASSERT_EQ(probe.probes().size(), Chain::levels);
    for (std::size_t i = 0; i < Chain::levels; ++i) {
        EXPECT_EQ(probe.probes()[i].info().at, Address::of(Chain::functions[i]));
        EXPECT_EQ(probe.probes()[i].hits(), i < 1 ? 3u : i < 4 ? 2u : 1u);
    }
    EXPECT_EQ(probe.in_flight(), 0u);
}

// Counts and instances.

TEST_F(ReturnProbeTest, MissedCallsAreCountedExactly) {
    for (const std::size_t most : {1, 7, 64, 200}) {
        Seen seen;
        const auto probe = attach_counting(&return_sum, seen, most);
        EXPECT_EQ(probe.max_active(), most);
        for (int round = 1; round <= 3; ++round) {
            EXPECT_EQ(return_sum(299), 299u * 300 / 2);
            const auto rounds = static_cast<std::uint64_t>(round);
            EXPECT_EQ(probe.counts().calls, 300 * rounds);
            EXPECT_EQ(probe.counts().missed, (300 - most) * rounds);
            EXPECT_EQ(seen.entries, most * rounds);
            EXPECT_EQ(seen.returns, most * rounds);
            EXPECT_EQ(probe.in_flight(), 0u);
        }
        EXPECT_EQ(probe.counts().unwound + probe.counts().stale, 0u);
        EXPECT_EQ(seen.strangers, 0u);
    }
}

TEST_F(ReturnProbeTest, HowManyCallsAtOnceByDefault) {
    Seen seen;
    const auto probe = attach_counting(&return_sum, seen);
    const auto cpus = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));
    EXPECT_GE(probe.max_active(), std::max<std::size_t>(64, 4 * static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_ONLN))));
    EXPECT_LE(probe.max_active(), std::max<std::size_t>(64, 4 * cpus));
    EXPECT_EQ(return_sum(probe.max_active() + 2), (probe.max_active() + 2) * (probe.max_active() + 3) / 2);
    EXPECT_EQ(probe.counts().missed, 3u);
}

struct Lives {
    static inline std::atomic<int> live{0}, made{0};
    static inline int throws_at = -1;
    int marker = 0;
    std::uint64_t uses;
    Lives() : uses(0) {
        if (made++ == throws_at) throw std::runtime_error("made enough");
        ++live;
    }
    Lives(const Lives&) = delete;
    ~Lives() {
        --live;
        marker = -1;
    }
};

TEST_F(ReturnProbeTest, DataAreMadeOnceForEachInstance) {
    Lives::live = Lives::made = 0;
    static std::uint64_t uses;
    uses = 0;
    int created = 0;
    auto probe = ReturnProbe<Lives>::attach(&return_sum, {.on_entry =
                                                              [](Lives& data, Registers&) {
                                                                  EXPECT_GT(data.marker, 0);
                                                                  return Track::track;
                                                              },
                                                          .on_return = [](Lives& data, Registers&) { uses += ++data.uses; },
                                                          .max_active = 5,
                                                          .on_create = [&](Lives& data) { data.marker = ++created; }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(created, 5);
    EXPECT_EQ(Lives::live, 5);
    return_sum(4);
    EXPECT_EQ(uses, 5u);
    return_sum(4);
    EXPECT_EQ(uses, 15u) << "data of a call are not changed before the next one";
    probe->detach();
    synchronize();
    EXPECT_EQ(Lives::made, 5);
    EXPECT_EQ(Lives::live, 0);
}

TEST_F(ReturnProbeTest, DataAreValueInitialised) {
    struct Plain {
        int a;
        double b;
        void* c[20];
    };
    static bool all_zero;
    all_zero = true;
    const auto probe = ReturnProbe<Plain>::attach(&return_sum, {.on_entry =
                                                                    [](Plain& data, Registers&) {
                                                                        if (data.a != 0 || data.b != 0) all_zero = false;
                                                                        for (void* each : data.c)
                                                                            if (each != nullptr) all_zero = false;
                                                                        return Track::track;
                                                                    },
                                                                .max_active = 30});
    ASSERT_TRUE(probe) << probe.error().message();
    return_sum(29);
    EXPECT_EQ(probe->counts().calls, 30u);
    EXPECT_EQ(probe->counts().missed, 0u);
    EXPECT_TRUE(all_zero);
}

struct alignas(256) Aligned {
    unsigned char bytes[5000];
};
TEST_F(ReturnProbeTest, DataAreAligned) {
    static int checked;
    checked = 0;
    const auto probe =
        ReturnProbe<Aligned>::attach(&return_sum, {.on_entry =
                                                       [](Aligned& data, Registers&) {
                                                           EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&data) % 256, 0u);
                                                           std::memset(data.bytes, 7, sizeof data.bytes);
                                                           return Track::track;
                                                       },
                                                   .on_return =
                                                       [](Aligned& data, Registers&) {
                                                           for (const unsigned char byte : data.bytes) ASSERT_EQ(byte, 7);
                                                           ++checked;
                                                       },
                                                   .max_active = 3});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_sum(2), 3u);
    EXPECT_EQ(checked, 3);
}

TEST_F(ReturnProbeTest, DataStayUntilTheLastCallInFlightHasEnded) {
    static Lives* inner;
    static Lives* outer;
    inner = outer = nullptr;
    Lives::live = Lives::made = 0;
    auto probe = ReturnProbe<Lives>::attach(&return_around, {.on_entry =
                                                                 [](Lives& data, Registers&) {
                                                                     (outer == nullptr ? outer : inner) = &data;
                                                                     return Track::track;
                                                                 },
                                                             .on_return = [](Lives&, Registers&) { FAIL() << "detached"; },
                                                             .max_active = 5,
                                                             .on_create = [](Lives& data) { data.marker = 1; }});
    ASSERT_TRUE(probe) << probe.error().message();
    around([&] {
        around([&] {
            probe->detach();
            synchronize();
            EXPECT_EQ(inner->marker, 1);
            EXPECT_EQ(outer->marker, 1);
            EXPECT_GT(Lives::live, 0);
            return 0;
        });
        synchronize();
        EXPECT_EQ(outer->marker, 1);
        EXPECT_GT(Lives::live, 0);
        return 0;
    });
    // Who comes next finds that it is over.
    Seen seen;
    attach_counting(&return_twice, seen).detach();
    synchronize();
    EXPECT_EQ(Lives::live, 0);
}

TEST_F(ReturnProbeTest, WhatThrowsWhileDataAreMadeLeavesNothingBehind) {
    const auto before = bytes_at(Address::of(&return_sum), 16);
    const auto attach = [](auto on_create) {
        return ReturnProbe<Lives>::attach(&return_sum,
                                          {.on_return = [](Lives&, Registers&) {}, .max_active = 5, .on_create = on_create});
    };
    Lives::live = Lives::made = 0;
    int created = 0;
    EXPECT_THROW(static_cast<void>(attach([&](Lives&) {
                     if (++created == 3) throw std::runtime_error("enough");
                 })),
                 std::runtime_error);
    EXPECT_EQ(Lives::made, 3);
    EXPECT_EQ(Lives::live, 0);
    Lives::made = 0;
    Lives::throws_at = 3;
    EXPECT_THROW(static_cast<void>(attach([](Lives&) {})), std::runtime_error);
    Lives::throws_at = -1;
    EXPECT_EQ(Lives::live, 0);
    EXPECT_EQ(bytes_at(Address::of(&return_sum), 16), before);
    EXPECT_EQ(return_sum(3), 6u);
}

TEST_F(ReturnProbeTest, HandlesMove) {
    Seen seen;
    ReturnProbe<Call> none;
    EXPECT_FALSE(none);
    EXPECT_EQ(none.in_flight() + none.max_active() + none.counts().calls, 0u);
    EXPECT_TRUE(none.probes().empty());
    none.detach();
    ReturnProbe<Call> one = attach_counting(&return_twice, seen);
    ReturnProbe<Call> other = std::move(one);
    EXPECT_FALSE(one);  // NOLINT: what a handle is that was moved from
    return_twice(1);
    EXPECT_EQ(seen.returns, 1u);
    Seen seen_sum;
    other = attach_counting(&return_sum, seen_sum);
    return_twice(1);
    return_sum(0);
    EXPECT_EQ(seen.entries, 1u) << "what was there is detached";
    EXPECT_EQ(seen_sum.returns, 1u);
    other.detach_nosync();
    synchronize();
    EXPECT_FALSE(other);
    return_sum(0);
    EXPECT_EQ(seen_sum.entries, 1u);
}

// Handlers.

TEST_F(ReturnProbeTest, HandlersAttachAndDetachAlsoThemselves) {
    static struct State {
        ReturnProbe<> self;
        ReturnProbe<Call> other;
        Seen seen;
        int entries = 0, returns = 0;
    } * state;
    State mine;
    state = &mine;
    mine.self = *ReturnProbe<>::attach(&return_twice, {.on_entry =
                                                           [](NoCallData&, Registers&) {
                                                               if (++state->entries == 1)
                                                                   state->other = attach_counting(&return_twice, state->seen);
                                                               return Track::track;
                                                           },
                                                       .on_return =
                                                           [](NoCallData&, Registers&) {
                                                               if (++state->returns == 2) state->self.detach();
                                                           },
                                                       .priority = 1});
    for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(return_twice(i), 2 * i);
    synchronize();
    EXPECT_EQ(mine.entries, 2);
    EXPECT_EQ(mine.returns, 2);
    EXPECT_GE(mine.seen.entries, 3u) << "what a handler attaches is hit from then on";
    EXPECT_EQ(mine.seen.returns, mine.seen.entries);
    EXPECT_EQ(mine.other.in_flight(), 0u);

    // At the entry: that call returns unseen.
    state->self = *ReturnProbe<>::attach(&return_twice, {.on_entry =
                                                             [](NoCallData&, Registers&) {
                                                                 ++state->entries;
                                                                 state->self.detach();
                                                                 return Track::track;
                                                             },
                                                         .on_return = [](NoCallData&, Registers&) { FAIL(); }});
    EXPECT_EQ(return_twice(4), 8u);
    EXPECT_EQ(return_twice(4), 8u);
    EXPECT_EQ(mine.entries, 3);
}

TEST_F(ReturnProbeTest, CallsInsideOfHandlersAreNotDelivered) {
    static int entries, returns;
    entries = returns = 0;
    const auto probe = ReturnProbe<>::attach(&return_twice, {.on_entry =
                                                                 [](NoCallData&, Registers&) {
                                                                     ++entries;
                                                                     EXPECT_EQ(return_twice(8), 16u);
                                                                     return Track::track;
                                                                 },
                                                             .on_return =
                                                                 [](NoCallData&, Registers& registers) {
                                                                     ++returns;
                                                                     EXPECT_EQ(registers.result(), 6u);
                                                                     EXPECT_EQ(return_twice(8), 16u);
                                                                 },
                                                             .max_active = 1});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_twice(3), 6u);
    EXPECT_EQ(entries, 1);
    EXPECT_EQ(returns, 1);
    EXPECT_EQ(probe->counts().calls, 1u);
    EXPECT_EQ(probe->counts().missed, 0u);
    EXPECT_EQ(probe->probes()[0].missed(), 2u);
    EXPECT_EQ(probe->in_flight(), 0u);
}

TEST_F(ReturnProbeTest, ErrnoIsKept) {
    const ReturnOptions<NoCallData> options{.on_entry =
                                                [](NoCallData&, Registers&) {
                                                    EXPECT_EQ(write(-1, "", 1), -1);
                                                    return Track::track;
                                                },
                                            .on_return = [](NoCallData&, Registers&) { EXPECT_EQ(write(-1, "", 1), -1); },
                                            .on_unwind = [](NoCallData&) { EXPECT_EQ(write(-1, "", 1), -1); }};
    const auto probe = ReturnProbe<>::attach(&return_around, options);
    ASSERT_TRUE(probe) << probe.error().message();
    errno = 33;
    around([] {
        EXPECT_EQ(errno, 33);
        errno = 44;
        return 0;
    });
    EXPECT_EQ(errno, 44);
    try {
        around([]() -> int {
            errno = 55;
            throw 1;
        });
    } catch (int) {
        EXPECT_EQ(errno, 55);
    }
    EXPECT_EQ(probe->counts().unwound, 1u);
}

// What is called by everybody, the library's own work too.
TEST_F(ReturnProbeTest, FunctionsThatEverybodyCalls) {
    if (test::thread_sanitizer)
        GTEST_SKIP() << "these are the sanitizer's own here, which call them before a thread may be watched";
    static thread_local int nested;
    nested = 0;
    const ReturnOptions<Call> options{.on_entry =
                                          [](Call& call, Registers&) {
                                              EXPECT_EQ(++nested, 1);
                                              ++call.seen->entries;
                                              const std::string text(100, 'x');  // malloc, memcpy, free
                                              EXPECT_EQ(write(-1, text.data(), text.size()), -1);
                                              --nested;
                                              return Track::track;
                                          },
                                      .on_return =
                                          [](Call& call, Registers&) {
                                              EXPECT_EQ(++nested, 1);
                                              ++call.seen->returns;
                                              const std::string text(100, 'y');
                                              EXPECT_EQ(write(-1, text.data(), text.size()), -1);
                                              --nested;
                                          }};
    const char* const names[] = {"malloc",           "free",  "calloc", "pthread_create",     "write",
                                 "memcpy",           "mmap",  "munmap", "pthread_mutex_lock", "pthread_mutex_unlock",
                                 "_ZNSt6localeC1Ev", "_Znwm", "_ZdlPv", "__errno_location",   "sched_yield",
                                 "pthread_join",     "strlen"};
    Seen seen[std::size(names)];
    std::vector<ReturnProbe<Call>> probes;
    for (std::size_t i = 0; i < std::size(names); ++i) {
        auto mine = options;
        mine.on_create = [&, i](Call& call) { call.seen = &seen[i]; };
        auto probe = ReturnProbe<Call>::attach(names[i], mine);
        ASSERT_TRUE(probe) << names[i] << ": " << probe.error().message();
        probes.push_back(std::move(*probe));
    }
    for (int i = 0; i < 20; ++i) {
        std::thread([] {
            for (int k = 0; k < 100; ++k) {
                void* volatile memory = malloc(static_cast<std::size_t>(k));
                free(memory);
            }
        }).join();
    }
    EXPECT_GE(seen[0].returns, 2000u);
    EXPECT_GE(seen[1].returns, 2000u);
    EXPECT_GE(seen[3].returns, 20u);
    for (auto& probe : probes) probe.detach_nosync();
    synchronize();
    for (std::size_t i = 0; i < std::size(names); ++i) EXPECT_EQ(seen[i].unwinds, 0u) << names[i];
}

// Breakpoints.

TEST_F(ReturnProbeTest, PlacesWhereNoJumpFits) {
    if (test::emulated) GTEST_SKIP() << test::blocked_by_emulator;
    if (test::thread_sanitizer) GTEST_SKIP() << "a thread of the sanitizer's blocks every signal";
    if (const char* why = test::make_place_of_breakpoint(Address::of(&returns_at_once))) GTEST_SKIP() << why;
    Seen seen;
    const auto tiny = attach_counting(&returns_at_once, seen);
    ASSERT_EQ(tiny.probes().size(), 1u);
    EXPECT_EQ(tiny.probes()[0].info().site_class, SiteClass::breakpoint);
    for (int i = 0; i < 10; ++i) returns_at_once();
    test::expect_all_ended(tiny, seen, 10);

    Seen seen_sum;
    auto options = counting(seen_sum);
    options.breakpoint = AllowBreakpoint::always;
    const auto forced = ReturnProbe<Call>::attach(&return_sum, options);
    ASSERT_TRUE(forced) << forced.error().message();
    EXPECT_EQ(forced->probes()[0].info().site_class, SiteClass::breakpoint);
    EXPECT_EQ(return_sum(20), 210u);
    test::expect_all_ended(*forced, seen_sum, 21);

    options.breakpoint = AllowBreakpoint::never;
    const auto refused = ReturnProbe<Call>::attach(&returns_at_once, options);
    ASSERT_FALSE(refused);
    // x86: one byte; arm64: a landing pad.
    EXPECT_TRUE(refused.error().code == Errc::too_short || refused.error().code == Errc::landing_pad)
        << refused.error().message();
}

// Tail calls: all their instances are led to by one word of the stack, which names only the last one.

TEST_F(ReturnProbeTest, TailCallsEndWithTheLastOfThem) {
    std::string text;
    const auto first = ReturnProbe<Letter>::attach(&return_tail_first, writing(text, 'a'));
    const auto second = ReturnProbe<Letter>::attach(&return_tail_second, writing(text, 'b'));
    ASSERT_TRUE(first && second);
    EXPECT_EQ(return_tail_first(5), 13u);
    EXPECT_EQ(text, "abBA");
    EXPECT_EQ(first->in_flight() + second->in_flight(), 0u);
}

TEST_F(ReturnProbeTest, CallsThatEndedInATailCallAreInFlight) {
    Seen seen;
    const auto probe = attach_counting(&return_tail_deep, seen, 40);
    auto inside = [&] { return probe.in_flight() + 1000 * probe.counts().stale; };
    for (const std::uint64_t depth : {0, 1, 20}) {
        seen.entries = seen.returns = 0;
        const std::uint64_t result = return_tail_deep(depth, &test::call_inside<decltype(inside)>, &inside);
        EXPECT_EQ(result, depth + 1);
        EXPECT_EQ(seen.returns, depth + 1);
        EXPECT_EQ(probe.in_flight(), 0u);
    }
    // More than there are instances: those of the chain are looked at, and are in use.
    EXPECT_EQ(return_tail_deep(100, &test::call_inside<decltype(inside)>, &inside), 40u);
    EXPECT_EQ(probe.counts().missed, 61u);
    EXPECT_EQ(probe.counts().stale, 0u);
    EXPECT_EQ(probe.in_flight(), 0u);
}

// The same word of the stack for several probes of one function.
TEST_F(ReturnProbeTest, SeveralOnOneFunctionAreInFlightTogether) {
    Seen seen[3];
    std::vector<ReturnProbe<Call>> probes;
    for (Seen& each : seen) probes.push_back(attach_counting(&return_around, each, 2));
    around([&] {
        for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), 1u);
        return around([&] {
            for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), 2u);
            EXPECT_EQ(around([] { return 7; }), 8u) << "none is free, and none is left behind";
            for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), 2u);
            return 1;
        });
    });
    for (std::size_t i = 0; i < probes.size(); ++i) {
        EXPECT_EQ(seen[i].returns, 2u);
        EXPECT_EQ(probes[i].counts().missed, 1u);
        EXPECT_EQ(probes[i].counts().stale, 0u);
        EXPECT_EQ(probes[i].in_flight(), 0u);
    }
}

// Refusals.

TEST_F(ReturnProbeTest, RefusalsSayWhyAndWhere) {
    Seen seen;
    const auto expect = [&](const ProbeTarget& target, Errc code, Address at, const char* what) {
        const auto refused = ReturnProbe<Call>::attach(target, counting(seen));
        ASSERT_FALSE(refused) << what;
        EXPECT_EQ(refused.error().code, code) << what << ": " << refused.error().message();
        EXPECT_EQ(refused.error().address, at) << what << ": " << refused.error().message();
    };
    for (const char* name :
         {"setjmp", "_setjmp", "__sigsetjmp", "vfork", "getcontext", "dlopen", "dlsym", "dlmopen", "dlvsym"}) {
        const Address at = Address::of(dlsym(RTLD_DEFAULT, name));
        ASSERT_TRUE(at) << name;
        // A sanitizer has some of these itself, in front of libc's.
        if (test::file_mapped_at(at).find("libc.so") == std::string::npos) continue;
        expect(name, Errc::denied, at, name);
    }
    const Address raise = Address::of(dlsym(RTLD_DEFAULT, "_Unwind_RaiseException"));
    expect(raise, Errc::denied, raise, "the unwinder");
    expect(Address::of(&walk_all) + 1, Errc::not_a_function, Address::of(&walk_all) + 1, "inside a function");
    const Address stub = Address::of(test::return_stub_of_linker());
    expect(stub, test::stubs_have_unwind_information ? Errc::not_a_function : Errc::no_unwind_table, stub,
           "a stub of the linker's");
    expect(Address::of(&_start), Errc::not_a_function, Address::of(&_start), "is jumped to");
    static int in_data = 0;
    expect(Address::of(&in_data), Errc::not_executable, Address::of(&in_data), "data");
    expect("no_such_function_anywhere", Errc::no_symbol, {}, "no symbol");

    const auto nobody = ReturnProbe<Call>::attach(&return_twice, {.on_create = [](Call&) {}});
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().code, Errc::no_callback);
    const auto nothing = ReturnProbe<Call>::attach(std::span<const ProbeTarget>{}, counting(seen));
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code, Errc::empty_batch);
    for (const std::size_t most : {pool_capacity_most + 1, std::size_t{1} << 40, ~std::size_t{0}}) {
        const auto too_many = ReturnProbe<Call>::attach(&return_twice, counting(seen, most));
        ASSERT_FALSE(too_many) << most;
        EXPECT_EQ(too_many.error().code, Errc::capacity_out_of_range) << most << ": " << too_many.error().message();
    }
    EXPECT_EQ(seen.entries, 0u);
}

TEST_F(ReturnProbeTest, ABatchIsAllOrNone) {
    Seen seen;
    const auto before = bytes_at(Address::of(&return_twice), 16);
    const ProbeTarget targets[] = {&return_twice, &return_sum, "vfork"};
    const auto refused = ReturnProbe<Call>::attach(targets, counting(seen));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::denied);
    EXPECT_EQ(refused.error().element, 2u);
    EXPECT_EQ(bytes_at(Address::of(&return_twice), 16), before);
    EXPECT_EQ(return_twice(2), 4u);
    EXPECT_EQ(seen.entries, 0u);
    auto attached = ReturnProbe<Call>::attach(std::span(targets).first(2), counting(seen));
    ASSERT_TRUE(attached) << attached.error().message();
    EXPECT_EQ(return_twice(2) + return_sum(2), 7u);
    test::expect_all_ended(*attached, seen, 4);
    attached->detach();
    EXPECT_EQ(bytes_at(Address::of(&return_twice), 16), before);
}

// Objects and processes.

TEST_F(ReturnProbeTest, WhatIsUnloadedIsGone) {
    if (test::thread_sanitizer) GTEST_SKIP() << "a thread of the sanitizer's blocks every signal";
    void* const object = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(object, nullptr) << dlerror();
    const auto function = reinterpret_cast<int (*)(int)>(dlsym(object, "plugin_function"));
    Seen seen;
    const ProbeTarget targets[] = {function, &return_twice};
    auto probe = ReturnProbe<Call>::attach(targets, counting(seen));
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(function(3), 13);
    dlclose(object);
    EXPECT_TRUE(probe->probes()[0].info().is_gone);
    EXPECT_FALSE(probe->probes()[1].info().is_gone);
    EXPECT_EQ(return_twice(3), 6u);
    test::expect_all_ended(*probe, seen, 2);
    void* const again = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(again, nullptr) << dlerror();
    const auto its_function = reinterpret_cast<int (*)(int)>(dlsym(again, "plugin_function"));
    EXPECT_EQ(its_function(4), 14);
    EXPECT_EQ(seen.entries, 2u);
    probe->detach();
    EXPECT_EQ(its_function(4), 14);
    dlclose(again);
}

TEST_F(ReturnProbeTest, AForkInsideOfACallEndsTheCallInBoth) {
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 8);
    pid_t child = -1;
    const std::uint64_t result = around([&] {
        return around([&] {
            child = fork();
            return child == 0 ? 100 : 200;
        });
    });
    if (child == 0) {
        const auto check = [&] {
            if (result != 102 || seen.entries != 2 || seen.returns != 2 || seen.strangers != 0) return 1;
            if (probe.in_flight() != 0 || probe.counts().calls != 2) return 2;
            if (around([&] { return probe.in_flight(); }) != 2 || seen.returns != 3) return 3;
            Seen more;
            auto second = ReturnProbe<Call>::attach(&return_sum, counting(more));
            if (!second || return_sum(9) != 45 || more.returns != 10 || second->in_flight() != 0) return 4;
            try {
                around([]() -> int { throw 1; });
                return 5;
            } catch (int) {
            }
            if (seen.unwinds != 1 || probe.counts().unwound != 1) return 6;
            second->detach();
            return return_sum(9) == 45 && more.returns == 10 ? 0 : 7;
        };
        _exit(check());
    }
    const test::Ended ended = test::wait_for(child);
    EXPECT_EQ(ended.status, 0) << "signal " << ended.signal;
    EXPECT_EQ(result, 202u);
    test::expect_all_ended(probe, seen, 2);
}

// Without fork handlers; and with the memory shared, as vfork() does.
TEST_F(ReturnProbeTest, ChildrenThatForkHandlersDoNotSee) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer's locks are copied as they are";
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 8);
    pid_t child = -1;
    const std::uint64_t result = around([&] {
        child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
        return child == 0 ? 100 : 200;
    });
    if (child == 0)
        _exit(result == 101 && seen.returns == 1 && around([] { return 1; }) == 2 && seen.returns == 2 && seen.strangers == 0
                  ? 0
                  : 1);
    EXPECT_EQ(test::wait_for(child).status, 0);
    EXPECT_EQ(result, 201u);
    if (test::emulated) GTEST_SKIP() << "the emulator gives the child of vfork() a copy of the memory";
    EXPECT_EQ(around([] {
                  const pid_t sharing = vfork();
                  if (sharing == 0) _exit(around([] { return 4; }) == 5 ? 0 : 1);
                  return test::wait_for(sharing).status;
              }),
              1u);
    test::expect_all_ended(probe, seen, 3);
}

TEST_F(ReturnProbeTest, TheProcessMayEndInsideOfACall) {
    const auto ended = test::in_child([] {
        static Seen seen;
        static auto probe = attach_counting(&return_around, seen);
        around([]() -> int { _exit(around([] { return 6; })); });
        return 0;
    });
    EXPECT_EQ(ended.status, 7);
    // With what is static destroyed inside of it.
    const auto ended_in_order = test::in_child([] {
        static Seen seen;
        static auto probe = attach_counting(&return_around, seen);
        around([]() -> int { std::exit(static_cast<int>(around([] { return 7; }))); });
        return 0;
    });
    EXPECT_EQ(ended_in_order.status, 8) << "signal " << ended_in_order.signal;
}

TEST_F(ReturnProbeTest, ManyThreads) {
    Seen seen;
    constexpr std::uint64_t threads = 80, calls = 300, depth = 5;
    const auto probe = attach_counting(&return_sum, seen, threads * (depth + 1));
    std::vector<std::thread> running;
    for (std::uint64_t i = 0; i < threads; ++i)
        running.emplace_back([] {
            for (std::uint64_t k = 0; k < calls; ++k) EXPECT_EQ(return_sum(depth), depth * (depth + 1) / 2);
        });
    for (auto& thread : running) thread.join();
    test::expect_all_ended(probe, seen, threads * calls * (depth + 1));
}

TEST_F(ReturnProbeTest, NothingStays) {
    const auto at = Address::of(&return_sum);
    const auto before = bytes_at(at, 32);
    Seen seen;
    { const auto warm = attach_counting(&return_sum, seen); }
    for (int i = 0; i < 50; ++i) {  // rooms of every size that is needed are there
        const auto probe = attach_counting(&return_sum, seen);
        return_sum(5);
    }
    synchronize();
    const std::size_t mappings = test::count_mappings(), descriptors = test::count_descriptors();
    seen.entries = seen.returns = 0;
    for (int i = 0; i < 200; ++i) {
        const auto probe = attach_counting(&return_sum, seen);
        return_sum(5);
    }
    synchronize();
    EXPECT_EQ(seen.returns, 1200u);
    EXPECT_EQ(bytes_at(at, 32), before);
    EXPECT_TRUE(test::thread_sanitizer || test::count_mappings() <= mappings);  // which maps what it watches with
    EXPECT_EQ(test::count_descriptors(), descriptors);
}

// gdb_probe.py looks at these.
TEST_F(ReturnProbeTest, ADebuggerShowsTheCallersOfACallInFlight) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    auto end = [] {
        return_test_breakpoint();
        return 1;
    };
    Chain chain(10, end);
    EXPECT_EQ(chain.call(), 11u);
    EXPECT_EQ(seen.returns, 10u);
}

TEST_F(ReturnProbeTest, ADebuggerShowsTheCallersInAHandler) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    const auto stopping =
        ReturnProbe<>::attach(Chain::functions[2], {.on_return = [](NoCallData&, Registers&) { return_test_breakpoint(); }});
    ASSERT_TRUE(stopping) << stopping.error().message();
    auto end = [] { return 1; };
    Chain chain(5, end);
    EXPECT_EQ(chain.call(), 6u);
    EXPECT_EQ(seen.returns, 5u);
}

TEST_F(ReturnProbeTest, ADebuggerStepsThroughACall) {
    Seen seen;
    const auto probe = attach_counting(&return_twice, seen);
    EXPECT_EQ(return_twice(1), 2u) << "what is done once in each thread is done";
    EXPECT_EQ(return_test_caller(20), 41u);
    test::expect_all_ended(probe, seen, 2);
}

}  // namespace
}  // namespace dynfunc
