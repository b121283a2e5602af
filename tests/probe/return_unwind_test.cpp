// SPDX-License-Identifier: MIT
// Exceptions, threads that end and walks of the stack pass through calls that are tracked, as if these were not: every object
// on the stack is destroyed once, every handler that is to catch catches, every instance comes back, and everybody who looks at
// the stack finds the real callers.
//
// The control: code that calls a function again, as a slot does, without unwind information.
#include <dlfcn.h>
#include <pthread.h>
#include <unwind.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory_resource>
#include <span>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "child.hpp"
#include "returns.hpp"
#include "stack_walk.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::around;
using test::attach_counting;
using test::Call;
using test::Chain;
using test::counting;
using test::expect_all_ended;
using test::return_around;
using test::return_around_noexcept;
using test::return_deep;
using test::return_tail_around;
using test::return_tail_deep;
using test::return_twice;
using test::return_wait;
using test::Seen;
using test::Walk;

struct Thrown : std::runtime_error {
    explicit Thrown(int n) : std::runtime_error("thrown by the test"), n(n) {}
    int n;
};

class ReturnUnwind : public test::Returns {};

TEST_F(ReturnUnwind, ExceptionsPassThroughOneToTenCalls) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    std::uint64_t calls = 0;
    for (int round = 0; round < 10; ++round) {
        for (std::size_t depth = 1; depth <= Chain::levels; ++depth) {
            auto end = []() -> int { throw Thrown(7); };
            Chain chain(depth, end);
            try {
                chain.call();
                FAIL();
            } catch (const Thrown& thrown) {
                EXPECT_EQ(thrown.n, 7);
            }
            EXPECT_EQ(chain.destroyed, static_cast<int>(depth));
            calls += depth;
            EXPECT_EQ(seen.unwinds, calls);
            EXPECT_EQ(probe.in_flight(), 0u);
            // And one that returns, through the same frames.
            auto good = [] { return 5; };
            EXPECT_EQ(Chain(depth, good).call(), depth + 5);
        }
    }
    EXPECT_EQ(seen.returns, calls);
    expect_all_ended(probe, seen, 2 * calls);
}

// Begins of the functions of the object around an address, from the search table of its unwind information.
std::vector<Address> functions_around(const void* inside) {
    dl_find_object found{};
    if (_dl_find_object(const_cast<void*>(inside), &found) != 0) return {};
    struct Table {
        std::uint8_t version, frame_encoding, count_encoding, table_encoding;
        std::int32_t frame;
        std::uint32_t count;
    };
    struct Entry {
        std::int32_t begin, description;
    };
    const auto* const table = static_cast<const Table*>(found.dlfo_eh_frame);
    constexpr std::uint8_t unsigned_4 = 0x03, from_the_table = 0x3b;
    EXPECT_EQ(table->count_encoding, unsigned_4);
    EXPECT_EQ(table->table_encoding, from_the_table);
    const std::span entries(reinterpret_cast<const Entry*>(table + 1), table->count);
    std::vector<Address> begins;
    for (const Entry& entry : entries) begins.push_back(Address::of(table) + entry.begin);
    return begins;
}

// One of them asks where it was called from (libgcc's uw_init_context_1), and has no name in a stripped library.
TEST_F(ReturnUnwind, TheUnwindersOwnFunctionsMayBeTracked) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer's runtime stands before the unwinder";
    Seen seen, seen_inside;
    const auto probe = test::attach_to_chain(seen);
    const auto raise = reinterpret_cast<const void*>(&_Unwind_RaiseException);
    std::vector<ReturnProbe<Call>> inside;
    std::size_t denied = 0;
    for (const Address function : functions_around(raise)) {
        auto attached = ReturnProbe<Call>::attach(function, counting(seen_inside));
        if (attached) inside.push_back(std::move(*attached));
        denied += !attached && attached.error().code == Errc::denied;
    }
    // Not only the entry points.
    EXPECT_GT(denied, 6u);
    EXPECT_GT(inside.size(), 20u);
    for (std::size_t depth = 1; depth <= Chain::levels; ++depth) {
        auto end = []() -> int { throw Thrown(7); };
        Chain chain(depth, end);
        EXPECT_THROW(chain.call(), Thrown);
        EXPECT_EQ(chain.destroyed, static_cast<int>(depth));
    }
    EXPECT_GT(seen_inside.returns, 0u);
    EXPECT_EQ(probe.in_flight(), 0u);
}

// The innermost first, before the objects of its caller are destroyed.
TEST_F(ReturnUnwind, CallsEndInTheOrderOfTheStack) {
    static std::vector<std::string> log;
    log.clear();
    struct Data {
        std::size_t level;
    };
    std::vector<ReturnProbe<Data>> probes;
    for (std::size_t level = 0; level < 4; ++level) {
        auto probe = ReturnProbe<Data>::attach(
            Chain::functions[level], {.on_unwind = [](Data& data) { log.push_back("end " + std::to_string(data.level)); },
                                      .on_create = [level](Data& data) { data.level = level; }});
        ASSERT_TRUE(probe) << probe.error().message();
        probes.push_back(std::move(*probe));
    }
    struct Logs {
        ~Logs() { log.push_back("destroyed"); }
    };
    auto inner = []() -> int { throw Thrown(1); };
    auto middle = [&] {
        const Logs object;
        return Chain(2, inner).call();  // levels 0 and 1 again
    };
    EXPECT_THROW(Chain(4, middle).call(), Thrown);
    const std::vector<std::string> expected{"end 1", "end 0", "destroyed", "end 3", "end 2", "end 1", "end 0"};
    EXPECT_EQ(log, expected);
    for (const auto& probe : probes) EXPECT_EQ(probe.in_flight(), 0u);
}

TEST_F(ReturnUnwind, WhatIsCaughtOnTheWayEndsNoFurtherCall) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    auto end = []() -> int { throw Thrown(1); };
    std::uint64_t unwinds = 0, returns = 0;
    for (std::size_t level = 0; level < Chain::levels; ++level) {
        Chain chain(Chain::levels, end);
        chain.at[level] = Chain::At::catches;
        EXPECT_EQ(chain.call(), 100 + level);
        EXPECT_EQ(chain.caught, 1);
        EXPECT_EQ(chain.destroyed, 10);
        unwinds += Chain::levels - 1 - level;
        returns += level + 1;
        EXPECT_EQ(seen.unwinds, unwinds);
        EXPECT_EQ(seen.returns, returns);
    }
    expect_all_ended(probe, seen, unwinds + returns);
}

TEST_F(ReturnUnwind, WhatIsThrownAgainGoesOn) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    auto end = []() -> int { throw Thrown(1); };
    for (int round = 0; round < 10; ++round) {
        Chain chain(Chain::levels, end);
        for (const std::size_t level : {8, 7, 4, 0}) chain.at[level] = Chain::At::rethrows;
        EXPECT_THROW(chain.call(), Thrown);
        EXPECT_EQ(chain.caught, 4);
        EXPECT_EQ(chain.destroyed, 10);
        Chain caught(Chain::levels, end);
        for (const std::size_t level : {8, 7, 4}) caught.at[level] = Chain::At::rethrows;
        caught.at[2] = Chain::At::catches;
        EXPECT_EQ(caught.call(), 102u);
        EXPECT_EQ(caught.caught, 4);
    }
    EXPECT_EQ(seen.unwinds, 10u * (10 + 7));
    expect_all_ended(probe, seen, 200);
}

// Caught by a function that has no probe, between some that have; thrown on by it as something else.
TEST_F(ReturnUnwind, OthersCatchInBetween) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    auto innermost = []() -> int { throw Thrown(1); };
    auto between = [&]() -> std::uint64_t {
        try {
            return Chain(3, innermost).call();
        } catch (const Thrown& thrown) {
            throw std::to_string(thrown.n + 1);
        }
    };
    auto outer = [&]() -> std::uint64_t {
        try {
            return Chain(4, between).call();
        } catch (const std::string& text) {
            return text == "2" ? 1000 : 0;
        }
    };
    EXPECT_EQ(Chain(5, outer).call(), 1005u);
    EXPECT_EQ(seen.unwinds, 7u);
    expect_all_ended(probe, seen, 12);
}

// What no C++ threw.
TEST_F(ReturnUnwind, ExceptionsOfOtherLanguagesPass) {
    static int deleted;
    deleted = 0;
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    auto end = []() -> int {
        static _Unwind_Exception foreign;
        std::memset(&foreign, 0, sizeof foreign);
        foreign.exception_class = 0x1234;
        foreign.exception_cleanup = [](_Unwind_Reason_Code, _Unwind_Exception*) { ++deleted; };
        _Unwind_RaiseException(&foreign);
        return 0;
    };
    for (int i = 0; i < 5; ++i) {
        Chain chain(Chain::levels, end);
        chain.at[1] = Chain::At::catches;
        EXPECT_EQ(chain.call(), 101u);
        EXPECT_EQ(chain.destroyed, 10);
    }
    EXPECT_EQ(deleted, 5);
    EXPECT_EQ(seen.unwinds, 40u);
    expect_all_ended(probe, seen, 50);
}

TEST_F(ReturnUnwind, DestructorsThrowAndCatchInside) {
    Seen seen, seen_around;
    const auto probe = test::attach_to_chain(seen);
    const auto probe_around = attach_counting(&return_around, seen_around);
    auto end = []() -> int { throw Thrown(1); };
    for (int i = 0; i < 10; ++i) {
        Chain chain(Chain::levels, end);
        chain.at = {Chain::At::throws_inside, Chain::At::passes,        Chain::At::throws_inside, Chain::At::throws_inside,
                    Chain::At::passes,        Chain::At::throws_inside, Chain::At::passes,        Chain::At::passes,
                    Chain::At::throws_inside, Chain::At::throws_inside};
        EXPECT_THROW(chain.call(), Thrown);
        EXPECT_EQ(chain.destroyed, 10);
    }
    EXPECT_EQ(seen.unwinds, 100u);
    expect_all_ended(probe, seen, 100);
    // Two calls of it in each of six destructors: the inner one throws.
    EXPECT_EQ(seen_around.unwinds, 60u);
    expect_all_ended(probe_around, seen_around, 120);
}

// Handlers may throw and catch for themselves.
int caught_inside = 0;
void throw_and_catch() {
    try {
        throw Thrown(3);
    } catch (const Thrown&) {
        ++caught_inside;
    }
}
TEST_F(ReturnUnwind, HandlersThrowAndCatchInside) {
    caught_inside = 0;
    const auto probe =
        ReturnProbe<NoCallData>::attach(&return_around, {.on_entry =
                                                             [](NoCallData&, Registers&) {
                                                                 throw_and_catch();
                                                                 return Track::track;
                                                             },
                                                         .on_return = [](NoCallData&, Registers&) { throw_and_catch(); },
                                                         .on_unwind = [](NoCallData&) { throw_and_catch(); }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(around([] { return 1; }), 2u);
    EXPECT_EQ(caught_inside, 2);
    EXPECT_THROW(around([]() -> int { throw std::string("another"); }), std::string);
    EXPECT_EQ(caught_inside, 4);
    EXPECT_EQ(probe->in_flight(), 0u);
}

TEST_F(ReturnUnwind, ExceptionsPassThroughTailCalls) {
    Seen seen, seen_deep;
    const auto probe = attach_counting(&return_tail_around, seen);
    const auto deep = attach_counting(&return_tail_deep, seen_deep);
    auto end = []() -> int { throw Thrown(1); };
    const auto inside = &test::call_inside<decltype(end)>;
    for (int i = 0; i < 10; ++i) {
        EXPECT_THROW(return_tail_around(inside, &end), Thrown);
        EXPECT_THROW(return_tail_deep(9, inside, &end), Thrown);
        EXPECT_THROW(around([&] { return return_tail_deep(2, inside, &end); }), Thrown);
    }
    expect_all_ended(probe, seen, 10);
    expect_all_ended(deep, seen_deep, 130);
    EXPECT_EQ(seen.unwinds + seen_deep.unwinds, 140u);
}

TEST_F(ReturnUnwind, SeveralProbesOfOneFunction) {
    Seen seen[4];
    std::vector<ReturnProbe<Call>> probes;
    for (Seen& each : seen) probes.push_back(attach_counting(&return_around, each));
    for (int i = 0; i < 10; ++i) EXPECT_THROW(around([]() -> int { throw Thrown(1); }), Thrown);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(seen[i].unwinds, 10u);
        expect_all_ended(probes[i], seen[i], 10);
    }
}

TEST_F(ReturnUnwind, ADetachedProbeDoesNotSeeTheEnd) {
    Seen seen, other;
    auto probe = attach_counting(&return_around, seen);
    const auto stays = attach_counting(&return_around, other);
    EXPECT_THROW(around([&]() -> int {
                     probe.detach();
                     throw Thrown(1);
                 }),
                 Thrown);
    EXPECT_EQ(seen.entries, 1u);
    EXPECT_EQ(seen.ends(), 0u);
    expect_all_ended(stays, other, 1);
}

TEST_F(ReturnUnwind, AnExceptionGoesFromThreadToThread) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    std::exception_ptr moved;
    for (int i = 0; i < 20; ++i) {
        std::thread([&] {
            auto end = [&]() -> int {
                if (moved) std::rethrow_exception(moved);
                throw Thrown(9);
            };
            try {
                Chain(Chain::levels, end).call();
            } catch (...) {
                moved = std::current_exception();
            }
        }).join();
    }
    auto end = [&]() -> int { std::rethrow_exception(moved); };
    try {
        Chain(5, end).call();
        FAIL();
    } catch (const Thrown& thrown) {
        EXPECT_EQ(thrown.n, 9);
    }
    EXPECT_EQ(seen.unwinds, 205u);
    expect_all_ended(probe, seen, 205);
}

TEST_F(ReturnUnwind, ManyThrowsLoseNoInstance) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen, Chain::levels);
    auto end = []() -> int { throw Thrown(1); };
    const int throws = test::slow ? 2'000 : 20'000;
    int caught = 0;
    for (int i = 0; i < throws; ++i) {
        try {
            Chain(Chain::levels, end).call();
        } catch (const Thrown&) {
            ++caught;
        }
    }
    EXPECT_EQ(caught, throws);
    EXPECT_EQ(seen.unwinds, static_cast<std::uint64_t>(throws) * Chain::levels);
    expect_all_ended(probe, seen, static_cast<std::uint64_t>(throws) * Chain::levels);
}

// More instances than anything was made for in advance.
TEST_F(ReturnUnwind, ThousandsOfCallsAreUnwound) {
    Seen seen;
    constexpr std::uint64_t depth = 5'999;
    const auto probe = attach_counting(&return_deep, seen, 6'200);
    auto returns = [&] { return probe.in_flight(); };
    EXPECT_EQ(return_deep(depth, &test::call_inside<decltype(returns)>, &returns), depth + depth + 1);
    EXPECT_EQ(seen.returns, depth + 1);
    auto throws = []() -> int { throw Thrown(1); };
    EXPECT_THROW(return_deep(depth, &test::call_inside<decltype(throws)>, &throws), Thrown);
    EXPECT_EQ(seen.unwinds, depth + 1);
    expect_all_ended(probe, seen, 2 * (depth + 1));
}

// Registers that belong to callers come back as they were.
[[gnu::noinline]] std::uint64_t uses_much(std::uint64_t seed, const std::function<void()>& throws) {
    std::uint64_t a = seed * 3, b = seed * 5, c = seed * 7, d = seed * 11, e = seed * 13, f = seed * 17;
    for (int i = 0; i < 5; ++i) {
        try {
            throws();
            return 0;
        } catch (const Thrown& thrown) {
            a += b + static_cast<std::uint64_t>(thrown.n);
            b ^= c, c += d, d *= e, e += f, f += a;
        }
    }
    return a ^ b ^ c ^ d ^ e ^ f;
}
TEST_F(ReturnUnwind, TheCallersRegistersComeBack) {
    auto end = []() -> int { throw Thrown(77); };
    const auto throws = [&] { Chain(Chain::levels, end).call(); };
    std::vector<std::uint64_t> expected;
    for (std::uint64_t seed = 1; seed < 20; ++seed) expected.push_back(uses_much(seed, throws));
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    for (std::uint64_t seed = 1; seed < 20; ++seed) EXPECT_EQ(uses_much(seed, throws), expected[seed - 1]);
    expect_all_ended(probe, seen, 19 * 5 * Chain::levels);
}

// Processes that end so.

constexpr int terminated = 42;

TEST_F(ReturnUnwind, AFunctionThatMustNotThrowTerminates) {
    const auto ended = test::in_child([] {
        static Seen seen, seen_chain;
        static const auto outer = attach_counting(&return_around_noexcept, seen);
        static const auto probe = test::attach_to_chain(seen_chain);
        std::set_terminate([] { _exit(seen.entries == 1 && seen.ends() == 0 && seen_chain.returns == 0 ? terminated : 1); });
        auto end = []() -> int { throw Thrown(1); };
        auto inside = [&] { return Chain(3, end).call(); };
        try {
            return_around_noexcept(&test::call_inside<decltype(inside)>, &inside);
        } catch (...) {
        }
        return 2;
    });
    EXPECT_EQ(ended.status, terminated) << "signal " << ended.signal;
}

// Handlers must not throw, wherever they are called from.
TEST_F(ReturnUnwind, AHandlerThatThrowsTerminates) {
    static constexpr auto throws = [](NoCallData&, Registers&) { throw Thrown(1); };
    const ReturnOptions<NoCallData> options[] = {{.on_entry =
                                                      [](NoCallData& data, Registers& registers) {
                                                          throws(data, registers);
                                                          return Track::track;
                                                      }},
                                                 {.on_return = throws},
                                                 {.on_unwind = [](NoCallData&) { throw Thrown(1); }}};
    for (const auto& each : options) {
        const auto ended = test::in_child([&each] {
            std::set_terminate([] { _exit(terminated); });
            const auto probe = ReturnProbe<NoCallData>::attach(&return_around, each);
            if (!probe) return 1;
            for (const bool returns : {true, false}) {
                try {
                    around([&] {
                        if (!returns) throw 1;
                        return 1;
                    });
                } catch (...) {
                }
            }
            return 2;
        });
        EXPECT_EQ(ended.status, terminated) << "handler " << &each - options << ", signal " << ended.signal;
    }
}

// Nobody catches: the stack is as it was when the exception was thrown, for whoever looks at what is left of the process.
TEST_F(ReturnUnwind, WhatNobodyCatchesTerminatesWhereItIsThrown) {
    const auto ended = test::in_child([] {
        static Seen seen;
        static const auto probe = test::attach_to_chain(seen);
        std::set_terminate([] { _exit(seen.entries == 10 && seen.ends() == 0 && probe.in_flight() == 10 ? terminated : 1); });
        pthread_t thread;
        const auto start = [](void*) -> void* {
            auto end = []() -> int { throw Thrown(1); };
            Chain(Chain::levels, end).call();
            return nullptr;
        };
        if (pthread_create(&thread, nullptr, start, nullptr) != 0) return 2;
        pthread_join(thread, nullptr);
        return 3;
    });
    EXPECT_EQ(ended.status, terminated) << "signal " << ended.signal;
}

// Threads that end.

class ThreadThatEnds {
public:
    template <class F>
    explicit ThreadThatEnds(F& body) {
        const auto start = [](void* data) -> void* {
            (*static_cast<F*>(data))();
            return nullptr;
        };
        if (pthread_create(&thread_, nullptr, start, &body) != 0) std::abort();
    }
    void cancel() { pthread_cancel(thread_); }
    void* join() {
        void* result = nullptr;
        pthread_join(thread_, &result);
        return result;
    }

private:
    pthread_t thread_{};
};

TEST_F(ReturnUnwind, ThreadsExitThroughCalls) {
    Seen seen;
    const auto probe = test::attach_to_chain(seen);
    for (int i = 0; i < 10; ++i) {
        auto end = []() -> int { pthread_exit(reinterpret_cast<void*>(5)); };
        Chain chain(Chain::levels, end);
        auto body = [&] { chain.call(); };
        EXPECT_EQ(ThreadThatEnds(body).join(), reinterpret_cast<void*>(5));
        EXPECT_EQ(chain.destroyed, 10);
    }
    EXPECT_EQ(seen.unwinds, 100u);
    expect_all_ended(probe, seen, 100);
}

// What belongs to a thread is destroyed by calls that are tracked, when the library has done with the thread, too.
struct CallsAtTheEnd {
    static inline std::atomic<int> right{0};
    ~CallsAtTheEnd() {
        right += around([] { return 1; }) == 2;
    }
};
TEST_F(ReturnUnwind, ThreadsCallWhileTheyEnd) {
    Seen seen;
    const auto probe = attach_counting(&return_around, seen, 4);
    CallsAtTheEnd::right = 0;
    for (int i = 0; i < 20; ++i) {
        std::thread([i] {
            static thread_local const CallsAtTheEnd before;
            static_cast<void>(&before);
            if (i % 2 == 0) around([] { return 1; });
            static thread_local const CallsAtTheEnd behind;
            static_cast<void>(&behind);
        }).join();
    }
    EXPECT_EQ(CallsAtTheEnd::right, 40);
    expect_all_ended(probe, seen, 50);
}

TEST_F(ReturnUnwind, ThreadsAreCancelledInCalls) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer's join does not see what is cancelled";
    Seen seen, seen_wait;
    const auto probe = test::attach_to_chain(seen);
    const auto waiting = attach_counting(&return_wait, seen_wait);
    for (const int type : {PTHREAD_CANCEL_DEFERRED, PTHREAD_CANCEL_ASYNCHRONOUS}) {
        for (int i = 0; i < 10; ++i) {
            std::atomic<bool> is_inside{false};
            std::uint64_t words[2] = {0, 0};
            auto end = [&]() -> std::uint64_t {
                is_inside = true;
                if (type == PTHREAD_CANCEL_DEFERRED) {
                    for (;;) pause();
                }
                int before = 0;
                pthread_setcanceltype(type, &before);
                return return_wait(words);
            };
            Chain chain(Chain::levels, end);
            auto body = [&] { chain.call(); };
            ThreadThatEnds thread(body);
            while (!is_inside) std::this_thread::yield();
            // An asynchronous end may come at any instruction of the function; in the library's own code it would be the end
            // of all.
            while (type == PTHREAD_CANCEL_ASYNCHRONOUS && *static_cast<volatile std::uint64_t*>(&words[1]) == 0)
                std::this_thread::yield();
            thread.cancel();
            EXPECT_EQ(thread.join(), PTHREAD_CANCELED);
            EXPECT_EQ(chain.destroyed, 10);
        }
    }
    expect_all_ended(probe, seen, 200);
    expect_all_ended(waiting, seen_wait, 10);
    EXPECT_EQ(seen.unwinds, 200u);
}

// Walks of the stack.

Walk expected, in_body, in_entry, in_return, in_unwind;

TEST_F(ReturnUnwind, WalksFindTheRealCallers) {
    for (const bool by_unwinder : {false, true}) {
        static void (Walk::*take)();
        take = by_unwinder ? &Walk::take_by_unwinder : &Walk::take_by_backtrace;
        const ReturnOptions<NoCallData> options{.on_entry =
                                                    [](NoCallData&, Registers&) {
                                                        (in_entry.*take)();
                                                        return Track::track;
                                                    },
                                                .on_return = [](NoCallData&, Registers&) { (in_return.*take)(); },
                                                .on_unwind = [](NoCallData&) { (in_unwind.*take)(); }};
        Seen seen;
        const auto probe = test::attach_to_chain(seen);
        const auto walking = ReturnProbe<NoCallData>::attach(Chain::functions[4], options);
        ASSERT_TRUE(walking) << walking.error().message();
        for (Walk* walk : {&expected, &in_body, &in_entry, &in_return, &in_unwind}) walk->count = 0;
        (expected.*take)();
        auto end = [] {
            (in_body.*take)();
            return 0;
        };
        EXPECT_EQ(Chain(Chain::levels, end).call(), 10u);
        auto throws = []() -> int { throw Thrown(1); };
        EXPECT_THROW(Chain(Chain::levels, throws).call(), Thrown);
        ASSERT_GT(expected.count, 4);
        const auto expect = [&](const Walk& walk, std::size_t levels, const char* where) {
            EXPECT_TRUE(walk.ends_like(expected)) << where << ":" << walk.text();
            for (std::size_t i = 0; i < levels; ++i)
                EXPECT_TRUE(walk.has(Address::of(Chain::functions[i]))) << where << ": level " << i;
        };
        expect(in_body, 10, "in the body");
        expect(in_entry, 5, "in on_entry");
        expect(in_return, 4, "in on_return");
        expect(in_unwind, 4, "in on_unwind");
        EXPECT_FALSE(in_return.has(Address::of(Chain::functions[5])));
    }
}

// Tests of this suite run a second time with another unwinder in front of libgcc's (DYNFUNC_TEST_UNWINDER: the name of its
// file). Were it not used, they would all pass. What gcc compiled, as this function of libstdc++, terminates inside the
// personality routine where its noexcept is broken: whoever called that is on the stack. (clang's terminates in the function.)
struct ThrowsFromDeallocate : std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t) override { return ::operator new(bytes); }
    void do_deallocate(void*, std::size_t, std::size_t) override {
        auto end = []() -> int { throw Thrown(1); };
        return_around(&test::call_inside<decltype(end)>, &end);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

TEST_F(ReturnUnwind, TheUnwinderThatIsAskedForThrows) {
    static const char* const asked = std::getenv("DYNFUNC_TEST_UNWINDER");
    if (asked == nullptr) GTEST_SKIP() << "none is asked for";
    const auto ended = test::in_child([] {
        std::set_terminate([] {
            Walk walk;
            walk.take_by_backtrace();
            for (const void* frame : std::span(walk.frames, static_cast<std::size_t>(walk.count))) {
                Dl_info info{};
                if (dladdr(frame, &info) != 0 && std::string_view(info.dli_fname).ends_with(std::string("/") + asked))
                    _exit(terminated);
            }
            std::fprintf(stderr, "%s does not throw here:%s\n", asked, walk.text().c_str());
            _exit(1);
        });
        ThrowsFromDeallocate memory;
        std::pmr::monotonic_buffer_resource released(&memory);
        static_cast<void>(released.allocate(1));
        released.release();
        return 2;
    });
    EXPECT_EQ(ended.status, terminated) << "signal " << ended.signal;
}

// The control: as a slot does it, but without unwind information.
TEST_F(ReturnUnwind, ASlotWithoutUnwindInformationIsNoticed) {
    const auto throws_through = [](bool is_slot) {
        return test::in_child([is_slot] {
            std::set_terminate([] { _exit(terminated); });
            auto end = []() -> int { throw Thrown(1); };
            const auto inside = &test::call_inside<decltype(end)>;
            try {
                (is_slot ? &test::return_bare_slot : &return_around)(inside, &end);
            } catch (const Thrown&) {
                return 0;
            }
            return 1;
        });
    };
    auto good = [] { return 41; };
    EXPECT_EQ(test::return_bare_slot(&test::call_inside<decltype(good)>, &good), 42u) << "the control itself works";
    EXPECT_EQ(throws_through(true).status, terminated);
    EXPECT_EQ(throws_through(false).status, 0);
    Seen seen;
    const auto probe = attach_counting(&return_around, seen);
    EXPECT_EQ(throws_through(false).status, 0);
}

}  // namespace
}  // namespace dynfunc
