// SPDX-License-Identifier: MIT
// Bench "retarget": what it costs to find call sites (all text of an object is read, once) and to confirm them (the
// instructions of the functions around them are read).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "benches.hpp"
#include "call_sites.hpp"

namespace bench {
namespace {

constexpr double kibibyte = 1024;

// The block whose call sites are confirmed: two instructions for each, three around them.
constexpr std::uint64_t sites = 1000;
constexpr double instructions = 2 * sites + 3;

struct Text {
    const unsigned char *begin, *end;
    std::size_t size() const { return static_cast<std::size_t>(end - begin); }
};

Text text_of(const Module& module) {
    return {module.symbol<unsigned char>("real_text"), module.symbol<unsigned char>("real_text_end")};
}

// Reads a byte of each page: what the system does at a page's first use, and little else.
void touch(Text text) {
    constexpr std::size_t page = 4096;
    unsigned sum = 0;
    for (const unsigned char* at = text.begin; at < text.end; at += page) sum += *at;
    asm volatile("" ::"r"(sum));
}

// As fast as bytes can be read, into a buffer that stays in the cache.
void copy(Text text) {
    static std::array<unsigned char, 1 << 15> buffer;
    for (const unsigned char* at = text.begin; at < text.end; at += buffer.size()) {
        std::memcpy(buffer.data(), at, std::min(buffer.size(), static_cast<std::size_t>(text.end - at)));
        asm volatile("" ::"r"(buffer.data()) : "memory");
    }
}

// Of a function that nothing calls: all that happens for the first time is that call sites are looked for.
void find(const SiteBlock& block) { static_cast<void>(block.functions()[0].retarget(target_in(block, 1))); }

// Why a first retarget of this module's functions would not look for call sites; empty: it would.
std::string why_not(const Module& module) {
    if (!module.error().empty()) return module.error();
    const dynfunc::CallSitePatching how = dynfunc::call_site_patching();
    if (*how.reason != '\0') return how.reason;
    return how.when == dynfunc::CallSites::on_change ? "" : "DYNFUNC_CALL_SITES is set";
}

std::string form() { return to_string(dynfunc::capabilities().form); }

enum class Work : std::uint8_t { touch, copy, find };

// The module is loaded anew each time, so that none of its pages is mapped. Per KiB of text.
double sample(Work work, bool mapped) {
    const Module module(text_module);
    const SiteBlock* block = module.symbol<SiteBlock>("bench_sites");
    const Text text = text_of(module);
    if (block == nullptr || text.begin == nullptr) return std::nan("");
    if (mapped) touch(text);
    const double begin = now(Clock::thread_cpu);
    switch (work) {
        case Work::touch:
            touch(text);
            break;
        case Work::copy:
            copy(text);
            break;
        case Work::find:
            find(*block);
    }
    return (now(Clock::thread_cpu) - begin) / (static_cast<double>(text.size()) / kibibyte);
}

void measure_finding(Run& run) {
    Run own{run.results, run.quick ? std::size_t{3} : std::size_t{7}, run.quick};
    Group group(own,
                {.bench = "retarget",
                 .title = "finding call sites in 64 MiB of text",
                 .text = "An object with 64 MiB of code (a large program's, repeated) and 1000 dynamic functions is loaded; "
                         "the first retarget() looks for its call sites. -first: none of its pages has been used by "
                         "this process, so that the system maps them one after the other; the file itself is in memory. copy: "
                         "memcpy() of the same "
                         "bytes; touch: one byte of each page. 954 ns per KiB are 1 GiB a second.",
                 .baseline = "copy",
                 .unit = "ns per KiB"});
    {
        const Module tried(text_module);
        if (const std::string why = why_not(tried); !why.empty()) {
            group.leave_out("find", {}, why);
            return;
        }
        touch(text_of(tried));  // from now on the file is in memory
    }
    struct Kind {
        const char* id;
        Work work;
        bool mapped;
    };
    for (const Kind& kind :
         {Kind{"copy", Work::copy, true}, Kind{"copy-first", Work::copy, false}, Kind{"touch-first", Work::touch, false},
          Kind{"find", Work::find, true}, Kind{"find-first", Work::find, false}}) {
        std::vector<Target> targets;
        if (kind.work == Work::find) targets.push_back(gib_per_s_at_least(1));
        group.add({.id = kind.id,
                   .params = {{"text_mib", 64}},
                   .sample = [kind] { return sample(kind.work, kind.mapped); },
                   .targets = targets,
                   .form = kind.work == Work::find ? form() : ""});
    }
    group.measure();
}

// The object of batch_module, loaded anew: what its first retargets cost, in ns.
struct First {
    double find;     // of a function that nothing calls: the object's text is read, and has call_sites call sites
    double confirm;  // of one that is called in a block of many: what is left of it without what the same costs again
    double call_sites;
};
First first_retargets() {
    const Module module(confirm_module);
    const SiteBlock* uncalled = find_block(module, "dynfunc-uncalled", 1);
    const SiteBlock* block = find_block(module, "dynfunc-inline", sites);
    if (uncalled == nullptr || block == nullptr) return {std::nan(""), std::nan(""), 1};
    const auto retarget = [block](const SiteBlock& of, std::size_t turn) {
        const double begin = now(Clock::thread_cpu);
        static_cast<void>(of.functions()[0].retarget(target_in(*block, turn)));
        return now(Clock::thread_cpu) - begin;
    };
    First seen{};
    seen.find = retarget(*uncalled, 1);
    const double first = retarget(*block, 1), again = retarget(*block, 2);
    seen.confirm = first - again;
    for (const dynfunc::ObjectInfo& object : dynfunc::objects())
        if (object.mapped.contains(dynfunc::Address::of(block->run))) seen.call_sites = static_cast<double>(object.call_sites);
    return seen;
}

void measure_confirming(Run& run) {
    Group group(run,
                {.bench = "retarget",
                 .title = "call sites side by side, the first time",
                 .text = "Objects with little but call sites, one every 7 bytes. find: the first retarget() in the object "
                         "reads its text, per call site found. confirm: the first retarget() of a function that is "
                         "called from a block of 1000 call sites reads the block's 2003 instructions, per call site. "
                         "known: retarget_all() of 1000 functions later on, per function; find and confirm have been done.",
                 .baseline = "known",
                 .unit = "ns per call site"});
    const Module module(batch_module);
    const SiteBlock* known = find_block(module, "dynfunc-inline", sites);
    if (const std::string why = why_not(module); !why.empty() || known == nullptr) {
        group.leave_out("confirm", {}, why);
        return;
    }
    patch_sites_of(*known);
    const Params params = {{"call_sites", static_cast<std::int64_t>(sites)}};
    group.add({.id = "known",
               .params = params,
               .run =
                   [batches = Batches(*known, known->sites)](std::uint64_t n) {
                       for (std::uint64_t i = 0; i < n; ++i) batches.turn(i);
                   },
               .elements = static_cast<double>(known->sites),
               .form = form()});
    // The cases of a round run in the order in which they were added: the second finds what the first measured.
    const auto last = std::make_shared<First>();
    const auto confirmed = std::make_shared<std::vector<double>>();
    group.add({.id = "find",
               .params = params,
               .sample =
                   [last] {
                       *last = first_retargets();
                       return last->find / last->call_sites;
                   },
               .form = form()});
    group.add({.id = "confirm",
               .params = params,
               .sample =
                   [last, confirmed] {
                       confirmed->push_back(last->confirm);
                       return last->confirm / static_cast<double>(sites);
                   },
               .form = form(),
               .figures =
                   [confirmed] {
                       return Params{{"ps_per_instruction", std::llround(median(*confirmed) * 1000 / instructions)}};
                   }});
    group.measure();
}

}  // namespace

void bench_finding(Run& run) {
    measure_finding(run);
    measure_confirming(run);
}

}  // namespace bench
