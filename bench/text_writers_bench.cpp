// SPDX-License-Identifier: MIT
// Bench "text_writers": what it costs to keep code unwritable between updates. Baseline: a writable alias that is always there,
// the fastest way and a gift to whoever can make the process write at an address of their choice.
#include "benches.hpp"
#include "busy_callers.hpp"
#include "code_page.hpp"
#include "membarrier.hpp"

namespace bench {
namespace {

const CodePage* called_page;  // what the busy caller runs
void call_page() { called_page->call(); }

constexpr const char* under_caller = "1 busy caller runs the page";
constexpr const char* text =
    "One 8-byte word of code is written, then one membarrier. permanent-alias: a writable mapping that is always there; "
    "map-write-unmap: one made for the write; mprotect-alias: one made writable for the write; memfd-pwrite: pwrite to the "
    "memory "
    "file; proc-self-mem: pwrite to /proc/self/mem, private text; protection-key: an alias that a key keeps from writing.";

using AddCase = std::function<void(Group&, Case, std::function<void()> operation)>;

void measure(Run& run, CodePage& code, std::size_t callers, Clock clock, const AddCase& add) {
    Group group(run, {.bench = "text_writers",
                      .title = callers == 0 ? "no other thread" : under_caller,
                      .text = text,
                      .baseline = "permanent-alias",
                      .unit = "ns per write",
                      .clock = clock});
    const Params params = {{"bytes", 8}, {"callers", static_cast<std::int64_t>(callers)}};
    for (const CodePage::Writer& writer : CodePage::writers()) {
        if (const std::string& why = code.*writer.refusal; !why.empty())
            group.leave_out(writer.id, params, why);
        else
            add(group, {.id = writer.id, .params = params}, [&code, write = writer.write] {
                (code.*write)();
                sync_cores();
            });
    }
    group.measure();
}

}  // namespace

void bench_text_writers(Run& run) {
    CodePage code;
    const std::string why = !code.error().empty() ? code.error() : register_sync_cores() ? "" : "membarrier is refused";
    if (!why.empty()) {
        Group(run, {.bench = "text_writers", .title = "ways to write code", .baseline = ""})
            .leave_out("permanent-alias", {}, why);
        return;
    }
    measure(run, code, 0, Clock::thread_cpu, [](Group& group, Case c, std::function<void()> operation) {
        c.run = [operation = std::move(operation)](std::uint64_t n) {
            while (n-- > 0) operation();
        };
        group.add(std::move(c));
    });
    if (BusyCallers::other_cores() == 0) {
        Group(run, {.bench = "text_writers", .title = under_caller, .baseline = ""})
            .leave_out("permanent-alias", {{"bytes", 8}, {"callers", 1}}, "needs a second core");
        return;
    }
    called_page = &code;
    const BusyCallers callers(&call_page, 1);
    measure(run, code, 1, Clock::wall, [&callers](Group& group, Case c, std::function<void()> operation) {
        c.sample = [&callers, operation = std::move(operation)] { return median_latency(callers, operation); };
        group.add(std::move(c));
    });
}

}  // namespace bench
