// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "registry.hpp"
#include "surroundings.hpp"

namespace points {
struct Pair {
    double a, b;
};
struct Large {
    std::array<char, 16> values;
};
DYNFUNC_TRACEPOINT_DECLARE(declared_first, void(int));
DYNFUNC_TRACEPOINT(declared_first, void(int));
DYNFUNC_TRACEPOINT(event, void(int value));
DYNFUNC_TRACEPOINT(other, void(int value));
DYNFUNC_TRACEPOINT(third, void(int value));
DYNFUNC_TRACEPOINT(no_arguments, void());
DYNFUNC_TRACEPOINT(one_text, void(std::string_view));
DYNFUNC_TRACEPOINT(mixed, void(const std::string& text, double, Pair, char, Large, std::string_view, long double, int*, float));
DYNFUNC_TRACEPOINT(sixteen,
                   void(int, long, double, int, int, float, int, int, int, double, int, int, int, unsigned char, int, int));
DYNFUNC_TRACEPOINT(typed, void(bool, char, signed char, unsigned short, float, const void*, std::string_view,
                               const std::string&, Pair));
namespace inner {
DYNFUNC_TRACEPOINT(event, void(int value));  // another one of the same name
}
}  // namespace points

namespace dynfunc {
namespace {

using namespace points;

bool generates_code() { return capabilities().form == Form::patched; }

// What the plain functions below saw.
std::vector<std::pair<char, int>> log_of_calls;
std::string logged() {
    std::string text;
    for (const auto& [who, value] : std::exchange(log_of_calls, {})) text += who + std::to_string(value) + ' ';
    return text;
}
template <char who>
void plain(int value) {
    log_of_calls.emplace_back(who, value);
}
template <char who>
void with_data(int value, void* data) {
    log_of_calls.emplace_back(who, value + *static_cast<int*>(data));
}
auto logs_as(char who) {
    return [who](int value) { log_of_calls.emplace_back(who, value); };
}

void fire(int value) { DYNFUNC_TRACE(event, value); }
void fire_other(int value) { DYNFUNC_TRACE(other, value); }
TracepointInfo info() { return *find_tracepoint("points::event"); }

class TracepointTest : public testing::Test {
protected:
    void TearDown() override {
        for (const TracepointInfo& each : tracepoints("points::*")) {
            EXPECT_TRUE(each.callbacks.empty()) << each.name;
            EXPECT_EQ(each.delivery, Delivery::off) << each.name;
        }
        EXPECT_EQ(test::writable_code(), "");
        log_of_calls.clear();
    }
};

TEST_F(TracepointTest, EvaluatesNoArgumentsWhileNobodyListens) {
    int evaluated = 0;
    const auto expensive = [&] { return ++evaluated; };
    DYNFUNC_TRACE(event, expensive());
    EXPECT_EQ(evaluated, 0);
    const auto subscription = event.attach(&plain<'a'>);
    DYNFUNC_TRACE(event, expensive());
    EXPECT_EQ(evaluated, 1);
    EXPECT_EQ(logged(), "a1 ");
}

TEST_F(TracepointTest, CallsEachKindOfCallback) {
    int data = 100;
    {
        const auto a = event.attach(&plain<'a'>);
        const auto b = event.attach(&with_data<'b'>, &data);
        const auto c = event.attach(logs_as('c'));
        const auto d = event.attach([](int value) { plain<'d'>(value); });  // no captures: a plain function
        const auto e = event.attach(std::function<void(int)>(&plain<'e'>));
        ASSERT_TRUE(a && b && c && d && e);
        fire(1);
        EXPECT_EQ(logged(), "a1 b101 c1 d1 e1 ");
    }
    fire(2);
    EXPECT_EQ(logged(), "");
}

TEST_F(TracepointTest, DeliversByTheShortestWay) {
    using enum Delivery;
    const Delivery several = generates_code() ? generated : iterator;
    auto a = event.attach(&plain<'a'>, {.static_lifetime = true});
    EXPECT_EQ(info().delivery, direct);
    auto b = event.attach(&plain<'b'>);
    EXPECT_EQ(info().delivery, several);
    ASSERT_TRUE(a->detach());
    EXPECT_EQ(info().delivery, function);
    fire(1);
    ASSERT_TRUE(b->detach());
    auto c = event.attach(logs_as('c'));
    EXPECT_EQ(info().delivery, several);
    auto d = event.attach(&plain<'d'>, {.static_lifetime = true});
    ASSERT_TRUE(c->detach());
    EXPECT_EQ(info().delivery, direct);
    fire(2);
    EXPECT_EQ(logged(), "b1 d2 ");
}

TEST_F(TracepointTest, CallsByPriorityAndAgeWhateverTheOrderOfAttaching) {
    std::vector<Result<Subscription>> all;
    all.push_back(event.attach(logs_as('a')));
    all.push_back(event.attach(logs_as('b'), {.priority = 5}));
    all.push_back(event.attach(logs_as('c')));
    all.push_back(event.attach(logs_as('d'), {.priority = -5}));
    all.push_back(event.attach(logs_as('e'), {.priority = 5}));
    all.push_back(event.attach(logs_as('f'), {.priority = 7}));
    fire(0);
    EXPECT_EQ(logged(), "f0 b0 e0 a0 c0 d0 ");
    ASSERT_TRUE(all[1]->detach());
    fire(0);
    EXPECT_EQ(logged(), "f0 e0 a0 c0 d0 ");
    EXPECT_EQ(info().callbacks.front().priority, 7);
}

TEST_F(TracepointTest, PassesNoArguments) {
    int calls = 0;
    const auto a = no_arguments.attach([&] { ++calls; });
    const auto b = no_arguments.attach([&] { ++calls; });
    DYNFUNC_TRACE(no_arguments);
    EXPECT_EQ(calls, 2);
}

TEST_F(TracepointTest, PassesEveryKindOfArgumentToEachOfSeveralCallbacks) {
    const std::string text = "text";
    int target = 0, right = 0;
    const auto check = [&](const std::string& s, double d, Pair p, char c, Large large, std::string_view v, long double l,
                           int* i, float f) {
        right += &s == &text && d == 1.5 && p.a == 2.5 && p.b == 3.5 && c == 'c' && large.values[4] == 5 && v == "view" &&
                 l == 4.5L && i == &target && f == 5.5f;
    };
    const Pair pair{2.5, 3.5};
    const Large large{{1, 2, 3, 4, 5}};
    std::vector<Result<Subscription>> all;
    for (int callbacks = 1; callbacks <= 5; ++callbacks) {
        all.push_back(mixed.attach([&, check](const std::string& s, double d, Pair p, char c, Large by_value,
                                              std::string_view v, long double l, int* i, float f) {
            check(s, d, p, c, by_value, v, l, i, f);
            by_value.values.fill(0);  // its own copy
            p.a = d = 0;
        }));
        right = 0;
        DYNFUNC_TRACE(mixed, text, 1.5, pair, 'c', large, "view", 4.5L, &target, 5.5f);
        EXPECT_EQ(right, callbacks);
    }
}

TEST_F(TracepointTest, PassesSixteenArguments) {
    int right = 0;
    const auto check = [&](int a, long b, double c, int d, int e, float f, int g, int h, int i, double j, int k, int l, int m,
                           unsigned char n, int o, int p) {
        right += a == 1 && b == 2 && c == 3 && d == 4 && e == 5 && f == 6 && g == 7 && h == 8 && i == 9 && j == 10 && k == 11 &&
                 l == 12 && m == 13 && n == 14 && o == 15 && p == 16;
    };
    const auto a = sixteen.attach(check);
    DYNFUNC_TRACE(sixteen, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    EXPECT_EQ(right, 1);
    const auto b = sixteen.attach(check);
    DYNFUNC_TRACE(sixteen, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    EXPECT_EQ(right, 3);
}

TEST_F(TracepointTest, CallsHundredsOfCallbacks) {
    int calls = 0, last = 0;
    std::vector<Result<Subscription>> all;
    for (int i = 0; i < 300; ++i)
        all.push_back(event.attach([&, i](int) {
            calls += last == i;
            last = i + 1;
        }));
    fire(0);
    EXPECT_EQ(calls, 300);
    EXPECT_EQ(info().delivery, generates_code() ? Delivery::generated : Delivery::iterator);
}

TEST_F(TracepointTest, WalksTheListWhereThereIsNoRoomForCode) {
    int calls = 0;
    std::vector<Result<Subscription>> all;
    for (int i = 0; i < 3000; ++i) all.push_back(event.attach([&](int) { ++calls; }));
    fire(0);
    EXPECT_EQ(calls, 3000);
    EXPECT_EQ(info().delivery, Delivery::iterator);
    for (int i = 0; i < 2998; ++i) ASSERT_TRUE(all[static_cast<std::size_t>(i)]->detach_nosync());
    synchronize();
    EXPECT_EQ(info().delivery, generates_code() ? Delivery::generated : Delivery::iterator) << "room was not given back";
    calls = 0;
    fire(0);
    EXPECT_EQ(calls, 2);
}

TEST_F(TracepointTest, RefusesTheSameFunctionWithTheSameDataTwice) {
    int data = 1, more = 2;
    const auto a = event.attach(&with_data<'a'>, &data);
    const auto refused = event.attach(&with_data<'a'>, &data);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::already_attached);
    EXPECT_EQ(refused.error().address, Address::of(&event));
    const auto b = event.attach(&with_data<'a'>, &more);
    const auto c = event.attach(&plain<'c'>);
    EXPECT_FALSE(event.attach(&plain<'c'>));
    fire(10);
    EXPECT_EQ(logged(), "a11 a12 c10 ");
}

TEST_F(TracepointTest, RefusesANullCallback) {
    const auto refused = event.attach(static_cast<void (*)(int)>(nullptr));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::no_callback);
}

TEST_F(TracepointTest, ASubscriptionMovesAndEndsOnce) {
    auto made = event.attach(logs_as('a'));
    Subscription moved = std::move(*made);
    EXPECT_FALSE(made->is_attached());
    EXPECT_TRUE(moved.is_attached());
    {
        Subscription inner;
        EXPECT_FALSE(inner.is_attached());
        inner = std::move(moved);
        fire(1);
        EXPECT_EQ(logged(), "a1 ");
    }
    fire(2);
    EXPECT_EQ(logged(), "");
    EXPECT_TRUE(moved.detach()) << "detaching nothing does nothing";
    moved = std::move(*event.attach(logs_as('b')));
    moved = std::move(*event.attach(logs_as('c')));
    fire(3);
    EXPECT_EQ(logged(), "c3 ");
}

TEST_F(TracepointTest, ACallableLivesUntilItIsDetached) {
    const auto token = std::make_shared<int>();
    auto subscription = event.attach([token](int) {});
    EXPECT_EQ(token.use_count(), 2);
    ASSERT_TRUE(subscription->detach());
    EXPECT_EQ(token.use_count(), 1);
    subscription = event.attach([token](int) {});
    ASSERT_TRUE(subscription->detach_nosync());
    EXPECT_EQ(token.use_count(), 2);
    synchronize();
    EXPECT_EQ(token.use_count(), 1);
}

TEST_F(TracepointTest, ACallableWithAnAlignmentOfItsOwnIsAligned) {
    struct alignas(256) Aligned {
        void operator()(int) { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(this) % 256, 0u); }
        int value = 0;
    };
    const auto subscription = event.attach(Aligned{});
    fire(0);
}

TEST_F(TracepointTest, DetachWaitsForACallbackThatIsRunning) {
    std::atomic<bool> inside{false}, leave{false}, detached{false};
    auto subscription = event.attach([&](int) {
        inside = true;
        while (!leave) std::this_thread::yield();
    });
    std::thread runs([] { fire(0); });
    while (!inside) std::this_thread::yield();
    std::thread detaches([&] {
        ASSERT_TRUE(subscription->detach());
        EXPECT_TRUE(leave) << "detach() returned while a thread was inside";
        detached = true;
    });
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    EXPECT_FALSE(detached);
    leave = true;
    runs.join();
    detaches.join();
}

TEST_F(TracepointTest, ACallbackDetachesItself) {
    const auto token = std::make_shared<int>();
    Subscription subscription;
    int calls = 0;
    subscription = std::move(*event.attach([&, token](int) {
        ++calls;
        EXPECT_TRUE(subscription.detach());
        EXPECT_EQ(token.use_count(), 2) << "it was destroyed while it ran";
    }));
    fire(0);
    fire(0);
    EXPECT_EQ(calls, 1);
    synchronize();
    EXPECT_EQ(token.use_count(), 1);
}

TEST_F(TracepointTest, AFunctionWithoutASectionDetachesItself) {
    static Subscription subscription;
    static int calls;
    calls = 0;
    subscription = std::move(*event.attach(
        [](int) {
            ++calls;
            EXPECT_TRUE(subscription.detach());
        },
        {.static_lifetime = true}));
    EXPECT_EQ(info().delivery, Delivery::direct);
    fire(0);
    fire(0);
    EXPECT_EQ(calls, 1);
}

TEST_F(TracepointTest, ACallbackAttachesAndDetachesOthers) {
    Subscription victim = std::move(*event.attach(logs_as('v')));
    std::vector<Subscription> added;
    const auto subscription = event.attach(
        [&](int) {
            EXPECT_TRUE(victim.detach());
            auto late = event.attach(logs_as('l'));
            ASSERT_TRUE(late);
            added.push_back(std::move(*late));
        },
        {.priority = 1});
    fire(1);  // goes by the list it began with
    EXPECT_EQ(logged(), "v1 ");
    fire(2);
    EXPECT_EQ(logged(), "l2 ");
    EXPECT_EQ(added.size(), 2u);
}

TEST_F(TracepointTest, NestedEventsAreDeliveredToADocumentedDepthAndCountedBeyond) {
    int calls = 0;
    const auto before = info().cut;
    const auto subscription = event.attach([&](int depth) {
        ++calls;
        if (depth < 100) fire(depth + 1);
    });
    fire(0);
    EXPECT_EQ(calls, 1 + static_cast<int>(max_nested_events));
    EXPECT_EQ(info().cut - before, 1u);
    calls = 0;
    fire(0);
    EXPECT_EQ(calls, 1 + static_cast<int>(max_nested_events)) << "the depth was not taken back";
}

TEST_F(TracepointTest, AnEventInsideAReadSectionIsDelivered) {
    const auto subscription = event.attach(logs_as('a'));
    const ReadSection outer;
    fire(1);
    EXPECT_EQ(logged(), "a1 ");
}

TEST_F(TracepointTest, AnExceptionLeavesTheEventAndSkipsTheRest) {
    const auto a = event.attach(logs_as('a'));
    auto b = event.attach([](int value) {
        if (value == 1) throw std::runtime_error("from a callback");
    });
    const auto c = event.attach(logs_as('c'));
    EXPECT_THROW(fire(1), std::runtime_error);
    EXPECT_EQ(logged(), "a1 ");
    fire(2);
    EXPECT_EQ(logged(), "a2 c2 ");
    ASSERT_TRUE(b->detach()) << "its section was left open";
    auto alone = other.attach([](int) { throw 1; });
    EXPECT_THROW(fire_other(0), int);
    ASSERT_TRUE(alone->detach());
}

TEST_F(TracepointTest, CountsHitsOfCallbacksThatAskForIt) {
    const auto a = event.attach(logs_as('a'), {.count_hits = true});
    fire(0);
    const auto b = event.attach(&plain<'b'>, {.static_lifetime = true, .count_hits = true});
    const auto c = event.attach(logs_as('c'));
    for (int i = 0; i < 10; ++i) fire(i);
    EXPECT_EQ(a->hits(), 11u);
    EXPECT_EQ(b->hits(), 10u);
    EXPECT_EQ(c->hits(), 0u);
    EXPECT_EQ(info().hits, 21u);
    EXPECT_FALSE(info().callbacks[2].counted);
}

TEST_F(TracepointTest, OfTheSameNameInTwoNamespacesAreTwo) {
    const auto subscription = inner::event.attach(logs_as('i'));
    fire(1);
    DYNFUNC_TRACE(inner::event, 2);
    EXPECT_EQ(logged(), "i2 ");
}

TEST_F(TracepointTest, IsListedWithItsSignatureAndPlace) {
    const TracepointInfo listed = info();
    EXPECT_EQ(listed.signature, "void(int value)");
    EXPECT_EQ(listed.file, std::string(__FILE__));
    EXPECT_GT(listed.line, 0u);
    EXPECT_EQ(tracepoints("points::ev?nt").size(), 1u);
    EXPECT_EQ(tracepoints("points::*event").size(), 2u) << "* also matches ::";
    EXPECT_FALSE(find_tracepoint("points::none"));
    EXPECT_EQ(listed.branches.patched, generates_code() ? listed.branches.sites : 0u);
}

TEST_F(TracepointTest, IsOnWhileSomebodyListens) {
    EXPECT_FALSE(event.is_on());
    const auto subscription = event.attach(logs_as('a'));
    EXPECT_TRUE(event.is_on());
}

TEST_F(TracepointTest, AttachAllAttachesToEachOrToNone) {
    {
        auto all = attach_all(event.attachment(logs_as('a')), other.attachment(&plain<'b'>), third.attachment(logs_as('c')));
        ASSERT_TRUE(all);
        ASSERT_EQ(all->size(), 3u);
        fire(1);
        fire_other(2);
        EXPECT_EQ(logged(), "a1 b2 ");
        const auto refused = attach_all(third.attachment(logs_as('x')), other.attachment(&plain<'b'>));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::already_attached);
        EXPECT_EQ(refused.error().element, 1u);
        EXPECT_EQ(find_tracepoint("points::third")->callbacks.size(), 1u);
    }
    const auto twice = attach_all(event.attachment(logs_as('a')), event.attachment(logs_as('b')));
    ASSERT_FALSE(twice);
    EXPECT_EQ(twice.error().code, Errc::duplicate_in_batch);
    const auto empty = attach_all(std::span<Attachment>());
    ASSERT_FALSE(empty);
    EXPECT_EQ(empty.error().code, Errc::empty_batch);
    const auto token = std::make_shared<int>();
    EXPECT_FALSE(attach_all(event.attachment([token](int) {}), event.attachment([token](int) {})));
    EXPECT_EQ(token.use_count(), 1) << "a refused callable was not destroyed";
}

// Refuses after so many allocations.
class Failing : public std::pmr::memory_resource {
public:
    int left = 0;
    int outstanding = 0;

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (left == 0) throw std::bad_alloc();
        --left;
        ++outstanding;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
        --outstanding;
        std::pmr::new_delete_resource()->deallocate(memory, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

// Lists come from `memory` while it exists.
class ListsFrom {
public:
    explicit ListsFrom(Failing& memory) { OwnedList::source = &memory; }
    ~ListsFrom() { OwnedList::source = nullptr; }
    ListsFrom(const ListsFrom&) = delete;
};

TEST_F(TracepointTest, AttachingWithoutMemoryIsAnErrorThatChangesNothing) {
    Failing memory, lists;
    const ListsFrom from(lists);
    for (const int allocations : {0, 1}) {
        memory.left = allocations;
        const auto token = std::make_shared<int>();
        const auto refused = event.attach([token](int) {}, {.memory = &memory});
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::out_of_memory);
        EXPECT_EQ(memory.outstanding + lists.outstanding, 0);
        EXPECT_EQ(token.use_count(), 1);
        EXPECT_FALSE(event.is_on());
    }
}

TEST_F(TracepointTest, DetachingNeedsNoMemory) {
    Failing lists;
    {
        const ListsFrom from(lists);
        lists.left = 100;
        const auto token = std::make_shared<int>();
        auto a = event.attach(logs_as('a'));
        auto b = event.attach([token](int) { log_of_calls.emplace_back('b', 0); });
        auto c = event.attach(logs_as('c'));
        auto d = event.attach(&plain<'d'>, {.static_lifetime = true});
        lists.left = 0;
        fire(0);
        EXPECT_EQ(logged(), "a0 b0 c0 d0 ");
        ASSERT_TRUE(b->detach());
        EXPECT_EQ(token.use_count(), 1);
        fire(0);
        EXPECT_EQ(logged(), "a0 c0 d0 ");
        EXPECT_EQ(info().callbacks.size(), 3u);
        ASSERT_TRUE(a->detach());
        fire(0);
        EXPECT_EQ(logged(), "c0 d0 ");
        ASSERT_TRUE(c->detach());
        fire(0);
        EXPECT_EQ(logged(), "d0 ");
        EXPECT_EQ(info().delivery, Delivery::direct);
        // The next list leaves the empty entries behind.
        lists.left = 100;
        const auto e = event.attach(logs_as('e'), {.priority = 1});
        fire(0);
        EXPECT_EQ(logged(), "e0 d0 ");
        lists.left = 0;
        ASSERT_TRUE(d->detach());
        fire(0);
        EXPECT_EQ(logged(), "e0 ");
    }
    synchronize();
    EXPECT_EQ(lists.outstanding, 0);
}

// A list that was made for one callback goes on to serve the others.
TEST_F(TracepointTest, TheMemoryOfACallbackIsNotNeededAfterIt) {
    const auto stays = event.attach(logs_as('s'));
    {
        Failing memory;
        memory.left = -1;
        auto a = event.attach(logs_as('a'), {.memory = &memory});
        ASSERT_TRUE(a->detach());
        EXPECT_EQ(memory.outstanding, 0);
    }
    fire(0);
    EXPECT_EQ(logged(), "s0 ");
}

// While others detach too, and reclaim what they find.
TEST_F(TracepointTest, DetachDestroysTheCallableBeforeItReturns) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> others;
    for (int i = 0; i < 3; ++i)
        others.emplace_back([&] {
            while (!stop) {
                auto subscription = other.attach([&stop](int) { static_cast<void>(stop); });
                ASSERT_TRUE(subscription && subscription->detach());
            }
        });
    for (int i = 0; i < test::rounds(2000); ++i) {
        const auto token = std::make_shared<int>();
        auto subscription = event.attach([token](int) {});
        ASSERT_TRUE(subscription->detach());
        ASSERT_EQ(token.use_count(), 1) << "in round " << i;
    }
    stop = true;
    for (auto& thread : others) thread.join();
}

TEST_F(TracepointTest, ManyAttachmentsLeaveNothingBehind) {
    Failing memory;
    memory.left = -1;
    const ListsFrom from(memory);
    for (int i = 0; i < test::rounds(3000); ++i) {
        const auto a = event.attach(logs_as('a'), {.memory = &memory});
        const auto b = event.attach(logs_as('b'), {.count_hits = true, .memory = &memory});
        ASSERT_TRUE(a && b);
        ASSERT_EQ(info().delivery, generates_code() ? Delivery::generated : Delivery::iterator) << "room was lost at " << i;
    }
    synchronize();
    EXPECT_EQ(memory.outstanding, 0);
}

TEST_F(TracepointTest, APatternReachesEveryMatchingTracepoint) {
    std::vector<std::string> events;
    auto all = subscribe("points::*", [&](const TraceEvent& e) { events.push_back(e.text()); });
    ASSERT_TRUE(all);
    EXPECT_EQ(all->size(), tracepoints("points::*").size());
    fire(1);
    DYNFUNC_TRACE(no_arguments);
    const std::string text = "b";
    const int* null = nullptr;
    DYNFUNC_TRACE(typed, true, 'x', -3, 65535, 1.5f, null, "a", text, Pair{1, 2});
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0], "points::event(1)");
    EXPECT_EQ(events[1], "points::no_arguments()");
    EXPECT_EQ(events[2], "points::typed(true, 'x', -3, 65535, 1.5, (nil), \"a\", \"b\", ?)");
    ASSERT_TRUE(all->detach());
    EXPECT_EQ(all->size(), 0u);
    fire(2);
    EXPECT_EQ(events.size(), 3u);
}

TEST_F(TracepointTest, AnEventGivesItsArgumentsByType) {
    int seen = 0;
    const auto all = subscribe("points::typed", [&](const TraceEvent& e) {
        ++seen;
        EXPECT_EQ(e.name(), "points::typed");
        EXPECT_EQ(e.size(), 9u);
        EXPECT_EQ(e.get<bool>(0), true);
        EXPECT_EQ(e.get<int>(0), std::nullopt);
        EXPECT_EQ(e.get<unsigned short>(3), 65535);
        EXPECT_EQ(e.get<short>(3), std::nullopt);
        EXPECT_EQ(e.get<float>(4), 1.5f);
        EXPECT_EQ(e.get<std::string_view>(6), "a");
        EXPECT_EQ(e.get<std::string>(7), "b");
        EXPECT_EQ(e.get<Pair>(8)->b, 2);
        EXPECT_EQ(e.get<Large>(8).has_value(), false);
        EXPECT_EQ(e.get<int>(9), std::nullopt);
    });
    const std::string text = "b";
    DYNFUNC_TRACE(typed, true, 'x', -3, 65535, 1.5f, nullptr, "a", text, Pair{1, 2});
    EXPECT_EQ(seen, 1);
}

TEST_F(TracepointTest, APatternThatMatchesNothingWaitsForWhatComes) {
    auto none = subscribe("nothing::*", [](const TraceEvent&) {});
    ASSERT_TRUE(none);
    EXPECT_EQ(none->size(), 0u);
    EXPECT_EQ(none->missed(), 0u);
}

}  // namespace
}  // namespace dynfunc
