// SPDX-License-Identifier: MIT
// Bench "tracepoints": what attaching and detaching cost, alone and while another core fires the tracepoint.
#include <cstdio>
#include <cstdlib>
#include <dynfunc/introspect.hpp>
#include <optional>
#include <vector>

#include "benches.hpp"
#include "busy_callers.hpp"
#include "event_callbacks.hpp"
#include "membarrier.hpp"
#include "on_loops.hpp"

namespace bench {

DYNFUNC_TRACEPOINT(attached, Callback);

// A hundred tracepoints, each with one site.
#define BENCH_TEN(each, tens)                                                                                       \
    each(tens##0) each(tens##1) each(tens##2) each(tens##3) each(tens##4) each(tens##5) each(tens##6) each(tens##7) \
        each(tens##8) each(tens##9)
#define BENCH_HUNDRED(each) \
    BENCH_TEN(each, 0)      \
    BENCH_TEN(each, 1)      \
    BENCH_TEN(each, 2)      \
    BENCH_TEN(each, 3)      \
    BENCH_TEN(each, 4) BENCH_TEN(each, 5) BENCH_TEN(each, 6) BENCH_TEN(each, 7) BENCH_TEN(each, 8) BENCH_TEN(each, 9)
#define BENCH_DEFINE(number) DYNFUNC_TRACEPOINT(attached_##number, Callback);
BENCH_HUNDRED(BENCH_DEFINE)

// Fires all of them.
void fire_attached() {
    DYNFUNC_TRACE(attached, 1, 2);
#define BENCH_FIRE(number) DYNFUNC_TRACE(attached_##number, 1, 2);
    BENCH_HUNDRED(BENCH_FIRE)
}

namespace {

[[noreturn]] void refuse(const dynfunc::Error& error) {
    std::fprintf(stderr, "dynfunc-bench: attach: %s\n", error.message().c_str());
    std::exit(1);
}
void check(const dynfunc::Result<void>& done) {
    if (!done) refuse(done.error());
}
template <class T>
T value_of(dynfunc::Result<T> result) {
    if (!result) refuse(result.error());
    return std::move(*result);
}

std::vector<dynfunc::Attachment> hundred_attachments() {
    std::vector<dynfunc::Attachment> all;
#define BENCH_ATTACHMENT(number) all.push_back(attached_##number.attachment(callbacks[0]));
    BENCH_HUNDRED(BENCH_ATTACHMENT)
    return all;
}

// One thing to time: `prepare` and `undo` stand outside the clock.
struct Operation {
    const char* id;
    std::int64_t events;  // how many subscriptions one operation is about
    std::function<void()> prepare, timed, undo;
};

std::vector<Operation> operations() {
    struct State {
        dynfunc::Subscription first, second;
        std::vector<dynfunc::Attachment> wanted;
        std::vector<dynfunc::Subscription> many;
    };
    const auto s = std::make_shared<State>();
    const auto nothing = [] {};
    const auto attach_first = [s] { s->first = value_of(attached.attach(callbacks[0])); };
    const auto attach_static = [s] { s->first = value_of(attached.attach(callbacks[0], {.static_lifetime = true})); };
    const auto attach_capture = [s] {
        s->first = value_of(attached.attach([f = s.get()](std::uint64_t, std::uint64_t) { asm volatile("" ::"r"(f)); }));
    };
    const auto attach_second = [s] { s->second = value_of(attached.attach(callbacks[1])); };
    const auto detach_first = [s] { check(s->first.detach()); };
    const auto detach_second = [s] { check(s->second.detach()); };
    const auto want_many = [s] { s->wanted = hundred_attachments(); };
    const auto attach_many = [s] { s->many = value_of(attach_all(std::span(s->wanted))); };
    const auto detach_many = [s] {
        for (auto& each : s->many) check(each.detach_nosync());
        dynfunc::synchronize();
    };
    return {{"membarrier", 1, nothing, [] { sync_cores(); }, nothing},
            {"attach-static", 1, nothing, attach_static, detach_first},
            {"attach", 1, nothing, attach_first, detach_first},
            {"attach-capture", 1, nothing, attach_capture, detach_first},
            {"attach-second", 1, attach_first, attach_second, [=] { detach_second(), detach_first(); }},
            {"attach-all", 100, want_many, attach_many, detach_many},
            {"detach-static", 1, attach_static, detach_first, nothing},
            {"detach", 1, attach_first, detach_first, nothing},
            {"detach-second", 1, [=] { attach_first(), attach_second(); }, detach_second, detach_first},
            {"detach-nosync", 100, [=] { want_many(), attach_many(); }, detach_many, nothing}};
}

void measure(Run& run, std::size_t count) {
    Group group(run, {.bench = "tracepoints",
                      .title = count == 0 ? "attach and detach, no other thread" : "attach and detach, 1 busy caller",
                      .text = "Per subscription. attach: the first callback of a tracepoint, a plain function; -static: of "
                              "static lifetime; -capture: a lambda that owns something; -second: beside another. attach-all: "
                              "100 tracepoints at once. detach waits until no thread is inside the callback; detach-nosync: "
                              "100 of them, then one synchronize(). A busy caller fires all 101 tracepoints without pause. "
                              "membarrier: that system call alone.",
                      .baseline = "membarrier",
                      .unit = "ns per subscription",
                      .clock = Clock::wall});
    if (!register_sync_cores() || count > BusyCallers::other_cores()) {
        group.leave_out("attach", {}, count > 0 ? "needs a second core" : "the system refuses membarrier");
        return;
    }
    const BusyCallers callers(&fire_attached, count);
    for (const Operation& operation : operations())
        group.add({.id = operation.id,
                   .params = {{"subscriptions", operation.events}, {"callers", static_cast<std::int64_t>(count)}},
                   .sample =
                       [&callers, operation] {
                           return median_latency(callers, operation.timed, operation.prepare, operation.undo) /
                                  static_cast<double>(operation.events);
                       },
                   .form = operation.id == std::string_view("membarrier") ? "" : to_string(dynfunc::capabilities().form)});
    group.measure();
}

}  // namespace

void bench_attach(Run& run) {
    measure(run, 0);
    measure(run, 1);
}

}  // namespace bench
