// SPDX-License-Identifier: MIT
// The part of the bench "return_probes" that throws through probed functions.
#include <cmath>
#include <string>

#include "benches.hpp"
#include "fresh_process.hpp"
#include "throwing.hpp"

namespace bench {

void bench_throws(Run& run) {
    Group group(run,
                {.bench = "return_probes",
                 .title = "a throw through " + std::to_string(thrown_through) + " frames",
                 .text = "throw-return: all of them probed; throw-bare-beside: none of them, while ten others are. Each round "
                         "is a process of its own.",
                 .baseline = "throw-bare",
                 .unit = "ns per throw"});
    const Params params = {{"frames", static_cast<std::int64_t>(thrown_through)}};
    if (const auto tried = throws_fresh(); !tried) {
        for (const char* const id : {"throw-bare", "throw-return", "throw-bare-beside"})
            group.leave_out(id, params, tried.error());
        return;
    }
    std::expected<Throws, std::string> seen;
    const auto nan = std::nan("");
    group.add({.id = "throw-bare", .params = params, .sample = [&seen, nan] {
                   seen = throws_fresh();
                   return seen ? seen->bare : nan;
               }});
    group.add({.id = "throw-return", .params = params, .sample = [&seen, nan] { return seen ? seen->probed : nan; }});
    group.add({.id = "throw-bare-beside", .params = params, .sample = [&seen, nan] { return seen ? seen->bare_beside : nan; }});
    group.measure();
}

}  // namespace bench
