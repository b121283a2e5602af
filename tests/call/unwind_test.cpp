// SPDX-License-Identifier: MIT
// Exceptions and stack walks pass through what stands between an event and its callbacks: trampolines, `deliver`, generated
// code, or the walk over the list. (gdb: gdb_backtrace.py.)
#include <execinfo.h>
#include <gtest/gtest.h>
#include <unwind.h>
#include <dynfunc/introspect.hpp>
#include <dynfunc/tracepoint.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "reclaim.hpp"

namespace unwinding {
DYNFUNC_TRACEPOINT(event, void(int value, std::string_view text, double half));
DYNFUNC_TRACEPOINT(outer, void(int value));
}  // namespace unwinding

// `main`, which C++ forbids to name.
extern "C" int program_main(int, char**) __asm__("main");

namespace dynfunc {
namespace {

using unwinding::event, unwinding::outer;

struct Refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string calls;   // a letter a callback
int destroyed = 0;   // objects on the stack of whoever was left by an exception
bool armed = false;  // the second callback throws
struct OnStack {
    ~OnStack() { ++destroyed; }
};

[[gnu::noinline]] void fire(int value) {
    const OnStack object;
    DYNFUNC_TRACE(event, value, "text", value / 2.0);
    calls += '.';
}

void check_arguments(int value, std::string_view text, double half) {
    EXPECT_EQ(text, "text");
    EXPECT_EQ(half, value / 2.0);
}

void first(int value, std::string_view text, double half) {
    check_arguments(value, text, half);
    calls += '1';
}
[[gnu::noinline]] void throw_if_armed() {
    const OnStack object;
    if (armed) throw Refused("by the second");
}
void second(int value, std::string_view text, double half) {
    check_arguments(value, text, half);
    calls += '2';
    throw_if_armed();
}
void third(int value, std::string_view text, double half, void* data) {
    check_arguments(value, text, half);
    calls += *static_cast<char*>(data);
}

// Whether the event threw.
bool fires_and_throws(int value) {
    try {
        fire(value);
    } catch (const Refused& refused) {
        EXPECT_EQ(refused.what(), std::string_view("by the second"));
        return true;
    }
    return false;
}

// A callable that tells when it is destroyed: only after a grace period, so not while a section is still open.
struct Tells {
    bool* gone;
    explicit Tells(bool& gone) : gone(&gone) {}
    Tells(Tells&& other) noexcept : gone(std::exchange(other.gone, nullptr)) {}
    ~Tells() {
        if (gone != nullptr) *gone = true;
    }
    void operator()(int, std::string_view, double) { calls += 'o'; }
};

class TracepointException : public testing::Test {
protected:
    TracepointException() {
        calls.clear();
        destroyed = 0;
        armed = false;
    }
};

TEST_F(TracepointException, LeavesTheEventAndLaterCallbacksDoNotSeeIt) {
    char letter = '3';
    bool gone = false;
    auto a = event.attach(&first, {.priority = 4});
    auto b = event.attach(&second, {.priority = 3});
    auto c = event.attach(&third, &letter, {.priority = 2, .count_hits = true});
    auto d = event.attach(Tells(gone), {.priority = 1});
    ASSERT_TRUE(a && b && c && d);
    const bool patches = capabilities().form == Form::patched;
    EXPECT_EQ(find_tracepoint("unwinding::event")->delivery, patches ? Delivery::generated : Delivery::iterator);
    EXPECT_FALSE(fires_and_throws(3));
    EXPECT_EQ(calls, "123o.");
    for (int i = 0; i < 10; ++i) {
        calls.clear();
        destroyed = 0;
        armed = true;
        EXPECT_TRUE(fires_and_throws(5));
        EXPECT_EQ(calls, "12");
        EXPECT_EQ(destroyed, 2) << "one in fire(), one in the callback";
        ASSERT_FALSE(is_in_section()) << "the exception left a section open";

        armed = false;
        calls.clear();
        EXPECT_FALSE(fires_and_throws(7));
        EXPECT_EQ(calls, "123o.");
    }
    EXPECT_EQ(c->hits(), 11u);
    // Waits for every section. From another thread it would wait for ever if one had been left open.
    armed = true;
    EXPECT_TRUE(fires_and_throws(9));
    std::thread([&] { EXPECT_TRUE(d->detach()); }).join();
    EXPECT_TRUE(gone);
    armed = false;
    calls.clear();
    EXPECT_FALSE(fires_and_throws(9));
    EXPECT_EQ(calls, "123.");
    for (auto* each : {&a, &b, &c}) ASSERT_TRUE((*each)->detach());
}

// One callback: without a section, in one, with data.
TEST_F(TracepointException, LeavesEachWayOfDelivery) {
    for (const bool static_lifetime : {true, false}) {
        auto only = event.attach(&second, {.static_lifetime = static_lifetime});
        ASSERT_TRUE(only);
        armed = true;
        EXPECT_TRUE(fires_and_throws(1));
        armed = false;
        EXPECT_FALSE(fires_and_throws(1));
        ASSERT_FALSE(is_in_section());
        ASSERT_TRUE(only->detach());
    }
    bool armed_object = true;
    auto only = event.attach([&armed_object](int, std::string_view, double) {
        if (armed_object) throw Refused("by the second");
    });
    ASSERT_TRUE(only);
    EXPECT_TRUE(fires_and_throws(1));
    armed_object = false;
    EXPECT_FALSE(fires_and_throws(1));
    ASSERT_FALSE(is_in_section());
    ASSERT_TRUE(only->detach());
}

// More often than events may be nested: none of them may be left counted as open.
TEST_F(TracepointException, LeavesNestedEvents) {
    auto inside = outer.attach([](int value) {
        calls += 'n';
        fire(value);
    });
    auto a = event.attach(&first, {.priority = 1});
    auto b = event.attach(&second);
    ASSERT_TRUE(inside && a && b);
    const auto fire_outer = [] { DYNFUNC_TRACE(outer, 1); };
    for (int i = 0; i < 3 * static_cast<int>(max_nested_events); ++i) {
        armed = true;
        EXPECT_THROW(fire_outer(), Refused);
        ASSERT_FALSE(is_in_section());
        armed = false;
        calls.clear();
        fire_outer();
        EXPECT_EQ(calls, "n12.");
    }
    EXPECT_EQ(find_tracepoint("unwinding::event")->cut, 0u);
    for (auto* each : {&a, &b, &inside}) ASSERT_TRUE((*each)->detach());
}

using Frames = std::vector<void*>;  // the innermost first; from the second on: return addresses

[[gnu::noinline]] Frames by_execinfo() {
    std::array<void*, 128> frames;
    const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
    return Frames(frames.begin(), frames.begin() + count);
}

[[gnu::noinline]] Frames by_unwinder() {
    Frames frames;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* data) {
            static_cast<Frames*>(data)->push_back(reinterpret_cast<void*>(_Unwind_GetIP(context)));
            return _URC_NO_REASON;
        },
        &frames);
    return frames;
}

bool contains(const Frames& frames, const void* function) {
    return std::any_of(frames.begin() + 1, frames.end(), [function](void* frame) {
        return _Unwind_FindEnclosingFunction(static_cast<std::byte*>(frame) - 1) == function;
    });
}

Frames (*walk)();
Frames seen;
void walk_here(int, std::string_view, double) {
    seen = walk();
    calls += 'w';
}

void expect_whole_stack() {
    for (auto* each : {&by_execinfo, &by_unwinder}) {
        walk = each;
        seen.clear();
        const Frames outside = each();
        fire(1);
        ASSERT_GT(seen.size(), outside.size());
        EXPECT_TRUE(contains(seen, reinterpret_cast<const void*>(&fire)));
        EXPECT_TRUE(contains(seen, reinterpret_cast<const void*>(&program_main)));
        // Everything below this function is the same. (Above it: the walk, around which a sanitizer may have put a frame more.)
        EXPECT_TRUE(std::equal(outside.rbegin(), outside.rend() - 3, seen.rbegin()));
    }
}

class TracepointBacktrace : public TracepointException {};

TEST_F(TracepointBacktrace, ReachesMainFromEachCallbackOfSeveral) {
    char letter = '3';
    auto a = event.attach(&first);
    auto c = event.attach(&third, &letter);
    ASSERT_TRUE(a && c);
    for (const int priority : {1, 0, -1}) {  // first, in the middle or last, which is jumped to
        auto only = event.attach(&walk_here, {.priority = priority, .count_hits = priority == 0});
        ASSERT_TRUE(only);
        auto last = event.attach(&second, {.priority = priority == -1 ? 0 : -1});
        ASSERT_TRUE(last);
        expect_whole_stack();
        ASSERT_TRUE(only->detach());
        ASSERT_TRUE(last->detach());
    }
    for (auto* each : {&a, &c}) ASSERT_TRUE((*each)->detach());
}

TEST_F(TracepointBacktrace, ReachesMainFromTheOnlyCallback) {
    for (const bool static_lifetime : {true, false}) {
        auto only = event.attach(&walk_here, {.static_lifetime = static_lifetime});
        ASSERT_TRUE(only);
        expect_whole_stack();
        ASSERT_TRUE(only->detach());
    }
    auto only = event.attach([&letter = calls](int value, std::string_view text, double half) {
        walk_here(value, text, half);
        letter += 'd';
    });
    ASSERT_TRUE(only);
    expect_whole_stack();
    ASSERT_TRUE(only->detach());
}

}  // namespace
}  // namespace dynfunc

// For gdb_backtrace.py: a callback with a name that a debugger can be told, the second of three.
extern "C" [[gnu::noinline]] void unwinding_breakpoint(int, std::string_view, double) { dynfunc::calls += 'b'; }

TEST(TracepointDebugger, FindsMainFromTheSecondOfThreeCallbacks) {
    using namespace dynfunc;
    char letter = '3';
    auto a = event.attach(&first, {.priority = 1});
    auto b = event.attach(&unwinding_breakpoint);
    auto c = event.attach(&third, &letter, {.priority = -1});
    ASSERT_TRUE(a && b && c);
    calls.clear();
    fire(1);
    EXPECT_EQ(calls, "1b3.");
    for (auto* each : {&a, &b, &c}) ASSERT_TRUE((*each)->detach());
}
