// SPDX-License-Identifier: MIT
// Calls in every place that a compiler knows: behind it they are call, jmp or jcc, in the function or in its cold part, with
// landing pads or without.
#include <coroutine>
#include <exception>

#include "calls.hpp"

using namespace sites;

// A constructor's: before main, and before the library has looked at anything.
const int constructed = step(1) + inline_caller(2);

namespace {

struct AtEnd {
    int n;
    ~AtEnd() { note(n); }
};

ONCE int in_try(int x) {
    try {
        return may_throw(x) + step(x);
    } catch (const Thrown& thrown) {
        return step(thrown.value) + 1000;
    } catch (...) {
        return step(-1) + 2000;
    }
}

ONCE int in_cleanup(int x) {
    AtEnd first{x};
    const int sum = may_throw(x);
    AtEnd second{sum};
    return sum + may_throw(x + 2);
}

ONCE int nested_handlers(int x) {
    try {
        try {
            return in_cleanup(x);
        } catch (const Thrown& thrown) {
            AtEnd end{thrown.value};
            if (step(x) > 0) throw;
            return 1;
        }
    } catch (const Thrown& thrown) {
        return step(thrown.value * 3);
    }
}

ONCE int without_exceptions(int x) noexcept { return step(x & ~1) + quiet(x); }

[[gnu::cold, gnu::noinline]] int cold_part(int x) { return step(x) * 3 + step(x + 1); }

ONCE int seldom(int x) {
    if (x < 0) [[unlikely]] {
        note(x);
        return step(-x) + cold_part(x) + quiet(x);
    }
    return step(x);
}

ONCE int tail(int x) { return step(x + 1); }
ONCE void conditional_tail(int x) {
    if (x > 3) note(x);
}
ONCE void either_tail(int x) {
    if (x > 3) return note(x);
    if (x < -3) return note(-x);
    noted += 1;
}

ONCE int by_table(int x) {
    switch (x) {
        case 0:
            return step(10);
        case 1:
            return quiet(11) + 1;
        case 2:
            return step(x) + constant(x);
        case 3:
            note(x);
            return 4;
        case 4:
            return may_throw(40);
        case 5:
            return linked_step(5);
        case 6:
            return step(step(6));
        case 7:
            return constant(7);
        default:
            return step(x) - quiet(x);
    }
}

ONCE int in_loops(int x) {
    int sum = 0;
    for (int i = 0; i < x; ++i) {
        sum += step(i);
        for (int j = i; j < 3; ++j)
            if (quiet(j) % 2 != 0) sum -= step(j);
    }
    while (sum > 100) sum -= quiet(40) + 1;
    do {
        note(sum);
    } while (++sum < 0);
    return sum;
}

struct Shape {
    virtual ~Shape() { note(1); }
    virtual int area(int x) const { return step(x); }
};
struct Square : Shape {
    ~Square() override { note(2); }
    int area(int x) const override { return step(x) * step(x); }
};
ONCE int virtually(int x, bool square) {
    const Shape shape;
    const Square other;
    const Shape* volatile chosen = square ? &other : &shape;
    return chosen->area(x);
}

ONCE int through_lambdas(int x) {
    const auto add = [x](int y) { return step(x + y) + quiet(y); };
    int (*const plain)(int) = [](int y) { return step(y) * 5; };
    int (*volatile kept)(int) = plain;
    const auto generic = [](auto y) { return template_caller<decltype(y), 1>(y); };
    return add(2) + kept(3) + generic(4) + static_cast<int>(generic(5L));
}

// A reference to a trampoline that is no branch.
ONCE int through_pointer(int x) {
    int (*volatile pointer)(int) = step;
    return pointer(x) + pointer(x + 1);
}

struct Counter {
    struct promise_type {
        int sum = 0;
        Counter get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(int n) { sum += step(n); }
        std::suspend_always yield_value(int n) {
            sum += quiet(n);
            return {};
        }
        void unhandled_exception() { sum += step(50); }
    };
    std::coroutine_handle<promise_type> handle;
};

Counter count(int x) {
    for (int i = 0; i < x; ++i) {
        AtEnd end{i};
        co_yield step(i) + may_throw(2 * i);
    }
    co_return may_throw(x);
}

ONCE int in_coroutine(int x) {
    const Counter counter = count(x);
    while (!counter.handle.done()) counter.handle.resume();
    const int sum = counter.handle.promise().sum;
    counter.handle.destroy();
    return sum;
}

ONCE int traced(int x) {
    int heard = 0;
    DYNFUNC_TRACE(event, heard, step(x));
    if (x > 2) DYNFUNC_TRACE(event, heard, x);
    for (int i = 0; i < 2; ++i) DYNFUNC_TRACE(linked_event, heard, i);
    return heard;
}
ONCE void traced_at_end(int& heard, int x) { DYNFUNC_TRACE(event, heard, x); }

[[gnu::section("own_text"), gnu::noinline]] int in_own_section(int x) { return step(x) + 3 * quiet(x); }

}  // namespace

void add_flow(Results& results) {
    for (const int x : {2, 5}) {
        results.add(in_try(x));
        results.add(nested_handlers(x));
        results.add(without_exceptions(x));
        results.add(seldom(x));
        results.add(seldom(-x));
        results.add(tail(x));
        conditional_tail(x);
        either_tail(x);
        either_tail(-x);
        results.add(in_loops(x));
        results.add(virtually(x, x == 2));
        results.add(through_lambdas(x));
        results.add(through_pointer(x));
        results.add(in_coroutine(x));
        results.add(traced(x));
        int heard = 0;
        traced_at_end(heard, x);
        results.add(heard);
        results.add(in_own_section(x));
    }
    for (int x = 0; x < 9; ++x) {
        try {
            results.add(by_table(x));
        } catch (const Thrown& thrown) {
            results.add(thrown.value);
        }
    }
    results.add(inline_caller(3));
    results.add(template_caller<int, 5>(3));
    results.add(noted);
    results.add(constructed);
}
