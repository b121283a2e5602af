// SPDX-License-Identifier: MIT
// How many instructions an operation executes: for a machine whose clock counts instructions, which is an emulator that was
// told so (tests/cross/instruction_counts.py; docs/instruction-counts.md).
//
//     dynfunc-instructions INSTRUCTIONS_PER_TICK      of arch::ticks()
//
// An operation stands in a loop, which is run n and 2n times: the difference is n turns, and nothing else. What a turn of an
// empty loop takes (of a loop with the same call, for probes) is taken off. Of several runs the shortest counts: that one the
// kernel's timer did not interrupt. Prints "@@count SECTION|OPERATION|INSTRUCTIONS" lines, and ends with 1 if the clock does
// not count instructions, or if something is not what the row says.
#include <dynfunc/capabilities.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/object_pool.hpp>
#include <dynfunc/probe.hpp>
#include <dynfunc/return_probe.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/tracepoint.hpp>
#include <dynfunc/typed_probe.hpp>
#include <dynfunc/typed_wrap.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "event_callbacks.hpp"
#include "ticks.hpp"

namespace bench::instructions {

using Loop = void (*)(std::uint64_t n);

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "dynfunc-instructions: %s\n", what.c_str());
    std::exit(1);
}
template <class T>
T must(const char* what, dynfunc::Result<T>&& made) {
    if (!made) give_up(std::string(what) + ": " + made.error().message());
    if constexpr (!std::is_void_v<T>) return *std::move(made);
}

// Every loop ends in the same two instructions, and forgets what it has read.
template <class Body>
[[gnu::always_inline]] inline void repeat(std::uint64_t n, Body body) {
    do {
        body();
        asm volatile("" : : : "memory");
    } while (--n != 0);
}
void empty_loop(std::uint64_t n) {
    repeat(n, [] {});
}
void nops_loop(std::uint64_t n) {
    repeat(n, [] { asm volatile(".rept 1000\n nop\n .endr"); });
}
constexpr double nops = 1000;

// ---- counting

class Counter {
public:
    explicit Counter(unsigned instructions_per_tick) : instructions_per_tick_(instructions_per_tick) {
        const double counted = of(&nops_loop, &empty_loop);
        if (std::abs(counted - nops) > 0.1)
            give_up("the clock does not count instructions: 1000 nops take " + std::to_string(counted));
    }

    // Of one turn of the loop, beyond one of the other.
    double of(Loop loop, Loop baseline) const { return turn(loop) - turn(baseline); }

private:
    // The kernel's timer interrupts once in 4 million instructions.
    static constexpr double most_instructions = 1'000'000;
    static constexpr std::uint64_t fewest_turns = 64, most_turns = 16384;
    static constexpr int runs = 9;

    double turn(Loop loop) const {
        const double about = static_cast<double>(shortest(loop, fewest_turns)) / fewest_turns;
        const double fitting = most_instructions / 2 / std::max(about, 1.0);
        const auto turns = std::clamp(static_cast<std::uint64_t>(fitting), fewest_turns, most_turns);
        return (shortest(loop, 2 * turns) - shortest(loop, turns)) / static_cast<double>(turns);
    }
    double shortest(Loop loop, std::uint64_t turns) const {
        asm volatile("" : "+r"(loop));  // else compilers inline a loop that they know, here once so and there otherwise
        std::uint64_t least = UINT64_MAX;
        for (int i = 0; i < runs; ++i) {
            const std::uint64_t began = dynfunc::arch::ticks();
            loop(turns);
            least = std::min(least, dynfunc::arch::ticks() - began);
        }
        return static_cast<double>(least) * instructions_per_tick_;
    }

    unsigned instructions_per_tick_;
};

struct Table {
    Counter counter;
    std::string form;  // what rows are called whose code depends on it
    bool is_best;      // otherwise only those

    void add(const char* section, const std::string& name, Loop loop, Loop baseline = &empty_loop) const {
        std::printf("@@count %s|%s|%.2f\n", section, name.c_str(), counter.of(loop, baseline));
        std::fflush(stdout);
    }
};

// ---- calls

[[gnu::noinline]] void nothing() { asm volatile(""); }
[[gnu::noinline]] void nothing_else() { asm volatile(""); }

DYNFUNC(never_changed, void(), &nothing);
DYNFUNC(changed_once, void(), &nothing);
DYNFUNC(null_function, void(), nullptr);

// One store must be able to replace the call's distance, which is to lie in 8 aligned bytes: of these one does.
template <int nops_before>
void call_site_loop(std::uint64_t n) {
    asm volatile(".rept %c0\n nop\n .endr" : : "i"(nops_before));
    repeat(n, [] { changed_once(); });
}

void add_call_site(const Table& table) {
    must("retarget", changed_once.retarget(&nothing_else));
    for (const auto& site : dynfunc::call_sites("bench::instructions::changed_once"))
        for (const Loop loop : {&call_site_loop<0>, &call_site_loop<1>, &call_site_loop<2>, &call_site_loop<3>})
            if (site.patched && site.field.value - dynfunc::Address::of(loop).value < 64)
                return table.add("call", "dynamic function, patched call site", loop);
}

void add_calls(const Table& table) {
    constexpr const char* section = "call";
    if (table.is_best) {
        table.add(section, "direct call", [](std::uint64_t n) { repeat(n, [] { nothing(); }); });
        table.add(section, "call through a function pointer", [](std::uint64_t n) {
            void (*function)() = &nothing;
            repeat(n, [&] {
                asm volatile("" : "+m"(function));
                function();
            });
        });
        static const std::function<void()> object = &nothing;
        table.add(section, "std::function", [](std::uint64_t n) { repeat(n, [] { object(); }); });
    }
    table.add(section, "dynamic function, " + table.form, [](std::uint64_t n) { repeat(n, [] { never_changed(); }); });
    if (table.is_best) add_call_site(table);
    table.add(section, "null dynamic function, " + table.form, [](std::uint64_t n) { repeat(n, [] { null_function(); }); });
}

// ---- static keys

DYNFUNC_STATIC_KEY_FALSE(key_off);
DYNFUNC_STATIC_KEY_TRUE(key_on);
// Not static: the compiler must not know their values.
bool flag_off = false, flag_on = true;

[[gnu::always_inline]] inline void branch(bool condition) {
    if (condition) asm volatile("");
}

void add_keys(const Table& table) {
    constexpr const char* section = "branch";
    if (table.is_best) {
        table.add(section, "plain bool, off", [](std::uint64_t n) { repeat(n, [] { branch(flag_off); }); });
        table.add(section, "plain bool, on", [](std::uint64_t n) { repeat(n, [] { branch(flag_on); }); });
    }
    table.add(section, "static key, off, " + table.form,
              [](std::uint64_t n) { repeat(n, [] { branch(static_branch_unlikely(key_off)); }); });
    table.add(section, "static key, on, " + table.form,
              [](std::uint64_t n) { repeat(n, [] { branch(static_branch_unlikely(key_on)); }); });
}

// ---- tracepoints

DYNFUNC_TRACEPOINT(event_off, Callback);
DYNFUNC_TRACEPOINT(event_1, Callback);
DYNFUNC_TRACEPOINT(event_1_section, Callback);
DYNFUNC_TRACEPOINT(event_2, Callback);
DYNFUNC_TRACEPOINT(event_4, Callback);
DYNFUNC_TRACEPOINT(event_8, Callback);

#define INSTRUCTIONS_EVENT(tracepoint) \
    [](std::uint64_t n) { repeat(n, [] { DYNFUNC_TRACE(tracepoint, std::uint64_t{1}, std::uint64_t{2}); }); }

template <class Tracepoint>
void attach(Tracepoint& tracepoint, std::size_t count) {
    static std::vector<dynfunc::Subscription> subscriptions;  // for as long as the program runs
    for (Callback* each : std::span(callbacks, count))
        subscriptions.push_back(must("attach", tracepoint.attach(each, {.static_lifetime = true})));
}

void add_event(const Table& table, const char* tracepoint, Loop loop) {
    const auto info = dynfunc::find_tracepoint(std::string("bench::instructions::") + tracepoint);
    const std::size_t count = info->callbacks.size();
    table.add(
        "tracepoint",
        std::to_string(count) + (count == 1 ? " callback, " : " callbacks, ") + to_string(info->delivery) + ", " + table.form,
        loop);
}

std::vector<std::function<Callback>> list;
void list_loop(std::uint64_t n) {
    repeat(n, [] {
        for (const auto& each : list) each(1, 2);
    });
}

void add_tracepoints(const Table& table) {
    table.add("tracepoint", "off, " + table.form, INSTRUCTIONS_EVENT(event_off));
    attach(event_1, 1);
    attach(event_2, 2);
    attach(event_4, 4);
    attach(event_8, 8);
    static const auto subscription =
        must("attach",
             event_1_section.attach([first = callbacks[0]](std::uint64_t, std::uint64_t) { asm volatile("" ::"r"(first)); }));
    add_event(table, "event_1", INSTRUCTIONS_EVENT(event_1));
    add_event(table, "event_1_section", INSTRUCTIONS_EVENT(event_1_section));
    add_event(table, "event_2", INSTRUCTIONS_EVENT(event_2));
    add_event(table, "event_4", INSTRUCTIONS_EVENT(event_4));
    add_event(table, "event_8", INSTRUCTIONS_EVENT(event_8));
    if (!table.is_best) return;
    for (const std::size_t count : {0, 1, 2, 4, 8}) {
        list.assign(callbacks, callbacks + count);
        table.add("tracepoint", "a list of " + std::to_string(count) + " std::function", &list_loop);
    }
}

// ---- probes

// What is probed, once by each row; an instruction of 4 bytes and of more in the place where a jump may come.
template <int row>
[[gnu::noinline]] int target(int x) {
    asm volatile("" : "+r"(x) : "i"(row));  // not one function for all rows
    return x * 0x01000193 + 1;
}
template <int row>
void target_loop(std::uint64_t n) {
    repeat(n, [x = 1]() mutable { x = target<row>(x); });
}

DYNFUNC_DETAIL_NO_VECTORS dynfunc::AfterHit do_nothing(dynfunc::ProbeHit&) { return dynfunc::AfterHit::keep; }
DYNFUNC_DETAIL_NO_VECTORS dynfunc::Track track(dynfunc::NoCallData&, dynfunc::Registers&) { return dynfunc::Track::track; }
DYNFUNC_DETAIL_NO_VECTORS void end(dynfunc::NoCallData&, dynfunc::Registers&) {}

// The rows' numbers: of their targets.
enum Row : int { unprobed, with_registers, with_vectors, typed, returned, returned_alone, wrapped, trapped };

template <Row row>
void add_hit(const Table& table, const char* name) {
    table.add("added to a call by", name, &target_loop<row>, &target_loop<unprobed>);
}

template <Row row>
void add_probe(const Table& table, const char* name, dynfunc::Needs needs,
               dynfunc::AllowBreakpoint breakpoint = dynfunc::AllowBreakpoint::never) {
    const auto probe =
        must(name, dynfunc::Probe::attach(&target<row>, {.on_hit = &do_nothing, .needs = needs, .breakpoint = breakpoint}));
    add_hit<row>(table, name);
    if (probe.hits() == 0) give_up(std::string(name) + ": no hits");
}

template <Row row>
void add_return_probe(const Table& table, const char* name, dynfunc::ReturnOptions<dynfunc::NoCallData> options) {
    options.needs = dynfunc::Needs::registers;
    options.breakpoint = dynfunc::AllowBreakpoint::never;
    const auto probe = must(name, dynfunc::ReturnProbe<>::attach(&target<row>, options));
    add_hit<row>(table, name);
    if (probe.counts().calls == 0 || probe.counts().missed != 0) give_up(std::string(name) + ": calls were missed");
}

void add_probes(const Table& table) {
    using enum dynfunc::Needs;
    add_probe<with_registers>(table, "probe, handler without vector registers", registers);
    add_probe<with_vectors>(table, "probe, any handler", vectors);
    add_return_probe<returned>(table, "return probe, handlers at entry and return", {.on_entry = &track, .on_return = &end});
    add_return_probe<returned_alone>(table, "return probe, handler at return", {.on_return = &end});
    {
        const auto probe = must(
            "typed probe", dynfunc::probe_typed(&target<typed>, [] DYNFUNC_DETAIL_NO_VECTORS(int&) {}, {.needs = registers}));
        add_hit<typed>(table, "typed probe");
    }
    {
        const auto wrap =
            must("typed wrap", dynfunc::wrap_typed(&target<wrapped>, [](auto original, int x) { return original(x); }));
        add_hit<wrapped>(table, "typed wrap");
    }
    add_probe<trapped>(table, "probe as breakpoint, kernel included", registers, dynfunc::AllowBreakpoint::always);
}

// ---- pools

struct Object {
    std::array<std::byte, 64> bytes;
};
using Pool = dynfunc::ObjectPool<Object>;
std::optional<Pool> pool;

void add_pools(const Table& table) {
    constexpr const char* section = "pop and push";
    using enum dynfunc::PoolBackEnd;
    for (const auto back_end : {restartable, tagged, single}) {
        pool = must("pool", Pool::create({.capacity = 64, .checks = dynfunc::PoolChecks::off, .back_end = back_end}));
        if (pool->back_end() != back_end) give_up(pool->back_end_reason());
        table.add(section, std::string("object pool, ") + to_string(back_end), [](std::uint64_t n) {
            repeat(n, [] {
                if (Object* const object = pool->try_pop_raw()) pool->push(object);
            });
        });
        if (pool->counters().misses != 0) give_up("the pool had no object");
    }
    table.add(section, "malloc and free, 64 bytes", [](std::uint64_t n) {
        repeat(n, [] {
            void* object = std::malloc(sizeof(Object));
            asm volatile("" : "+r"(object));
            std::free(object);
        });
    });
}

void add_sections(const Table& table) {
    table.add("read section", "open and close", [](std::uint64_t n) { repeat(n, [] { const dynfunc::ReadSection section; }); });
}

void run(unsigned instructions_per_tick) {
    const Counter counter(instructions_per_tick);
    const dynfunc::Form form = dynfunc::capabilities().form;
    const Table table{.counter = counter, .form = to_string(form), .is_best = form == dynfunc::Form::patched};
    std::printf("%s\n", dynfunc::capabilities().text().c_str());
    if (table.is_best) table.add("the counter itself", "1000 nops", &nops_loop);
    add_calls(table);
    add_keys(table);
    add_tracepoints(table);
    if (!table.is_best) return;
    add_probes(table);
    add_pools(table);
    add_sections(table);
}

}  // namespace bench::instructions

int main(int count, char** words) {
    const int instructions_per_tick = count == 2 ? std::atoi(words[1]) : 0;
    if (instructions_per_tick <= 0) bench::instructions::give_up("say how many instructions a tick of the clock is");
    bench::instructions::run(static_cast<unsigned>(instructions_per_tick));
    std::puts("@@done");
}
