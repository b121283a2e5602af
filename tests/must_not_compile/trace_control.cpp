// SPDX-License-Identifier: MIT
// The control of the cases of static keys and tracepoints: what they get wrong, done right. This one must compile.
#include <dynfunc/static_key.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

#include <string>
#include <string_view>
#include <utility>

struct Large {
    long words[40];
};

DYNFUNC_STATIC_KEY_FALSE(verbose);
DYNFUNC_TRACEPOINT(step, void(int));
DYNFUNC_TRACEPOINT(sixteen, void(int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, std::string_view));
DYNFUNC_TRACEPOINT(references, void(const std::string& name, const Large&, int& n));
DYNFUNC_TRACEPOINT(none, void());

static void take(int) {}
static void take_with_data(int, void*) {}

int main() {
    int sum = 0;
    if (!verbose.enable() || !dynfunc::update_all({verbose.to(false)})) return 1;
    auto first = step.attach(&take);
    auto second = step.attach(&take_with_data, &sum);
    auto third = step.attach([&sum](int n) { sum += n; });
    auto fourth = step.attach([](int) {});  // no captures: a plain function
    auto fifth = dynfunc::subscribe("*", [](const dynfunc::TraceEvent&) {});
    if (!first || !second || !third || !fourth || !fifth) return 1;
    const dynfunc::Subscription moved = std::move(*first);
    DYNFUNC_TRACE(step, 1);
    DYNFUNC_TRACE(sixteen, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, "16");
    DYNFUNC_TRACE(references, std::string("name"), Large{}, sum);
    DYNFUNC_TRACE(none);
    if (!second->detach()) return 1;
    return static_branch_unlikely(verbose) || static_branch_likely(verbose) || !moved.is_attached();
}
