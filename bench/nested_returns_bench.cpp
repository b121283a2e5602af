// SPDX-License-Identifier: MIT
// The part of the bench "return_probes" with probed functions inside each other. What a processor expects of a return it keeps
// in a stack of its own: one return that goes elsewhere spoils what is below, too.
#include <memory>
#include <string>
#include <vector>

#include "benches.hpp"
#include "nested_targets.hpp"
#include "return_contestants.hpp"

namespace bench {
namespace {

using namespace probes;

struct Way {
    std::string_view suffix;
    Arming (*arm)(Sites);
};
constexpr Way ways[] = {
    {"unprobed", [](Sites) -> Arming { return Armed{}; }},
    {"return", &arm_return},
    {"hijack", &arm_hijack},
    {"kernel-uretprobe", &arm_kernel_uretprobe},
};
static_assert(std::size(ways) <= nested_copies);

struct Nest {
    std::string id, title, text;
    std::vector<std::vector<Site>> copies;  // for each way: its functions, the one that is called from outside first
    int argument, answer;
    std::size_t calls;  // of probed functions, in one from outside
    Params params;
};

Nest chain_of_calls() {
    Nest nest{.id = "chain",
              .title = "a chain of " + std::to_string(chain_length),
              .text = "Functions of which each calls the next one, all probed.",
              .copies = {},
              .argument = 1,
              .answer = 1 + static_cast<int>(chain_length),
              .calls = chain_length,
              .params = {{"functions", static_cast<std::int64_t>(chain_length)}}};
    for (std::size_t i = 0; i < std::size(ways); ++i) {
        const auto sites = chain(i);
        nest.copies.emplace_back(sites.begin(), sites.end());
    }
    return nest;
}

Nest recursion_of(int depth) {
    Nest nest{.id = "recursion",
              .title = "a recursion of " + std::to_string(depth),
              .text = "A probed function that calls itself.",
              .copies = {},
              .argument = depth - 1,
              .answer = depth - 1,
              .calls = static_cast<std::size_t>(depth),
              .params = {{"depth", depth}}};
    for (std::size_t i = 0; i < std::size(ways); ++i) nest.copies.push_back({recursion(i)});
    return nest;
}

void measure(Run& run, const Nest& nest) {
    const auto id_of = [&](const Way& way) { return nest.id + "-" + std::string(way.suffix); };
    Group group(run, {.bench = "return_probes", .title = nest.title, .text = nest.text, .baseline = id_of(ways[0])});
    std::vector<Armed> armed;
    for (std::size_t i = 0; i < std::size(ways); ++i) {
        Function* const outermost = nest.copies[i].front().function;
        const std::byte before = first_byte(nest.copies[i].front());
        Arming arming = ways[i].arm(nest.copies[i]);
        if (!arming) {
            group.leave_out(id_of(ways[i]), nest.params, arming.error());
            continue;
        }
        const char* why_not = nullptr;
        if (i > 0 && first_byte(nest.copies[i].front()) == before) why_not = not_changed;
        if (outermost(nest.argument) != nest.answer) why_not = returns_otherwise;
        if (why_not != nullptr) {
            group.leave_out(id_of(ways[i]), nest.params, why_not);
            continue;
        }
        const Armed& kept = armed.emplace_back(*std::move(arming));
        group.add({.id = id_of(ways[i]),
                   .params = nest.params,
                   .run =
                       [outermost, argument = nest.argument](std::uint64_t n) {
                           for (; n > 0; --n) outermost(argument);
                       },
                   .elements = static_cast<double>(nest.calls),
                   .figures =
                       [missed = kept.missed, note = kept.note] {
                           Params params;
                           if (missed) params.push_back({"missed", static_cast<std::int64_t>(missed())});
                           if (!note.empty()) params.push_back({"note", note});
                           return params;
                       }});
    }
    group.measure();
}

}  // namespace

void bench_nested_returns(Run& run) {
    measure(run, chain_of_calls());
    for (const int depth : {8, 32}) measure(run, recursion_of(depth));  // the kernel tracks 64 calls of a thread
}

}  // namespace bench
