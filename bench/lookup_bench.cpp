// SPDX-License-Identifier: MIT
// Bench "many_probes": where a thread that runs one of 40,000 breakpoints goes on, looked up in the library's table and in
// others, each with and without the library's cache in front of it.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "benches.hpp"
#include "breakpoint_table.hpp"
#include "lookup_cache.hpp"

namespace bench {
namespace {

using dynfunc::BreakpointTable;
using dynfunc::LookupCache;
using Addresses = std::vector<std::uint64_t>;

constexpr std::size_t probes = 40'000, heads = 4096, hot = 64;

std::uint64_t resume_of(std::uint64_t at) { return at ^ 0x7000'0000'0000; }

// The library's own.
class OwnTable {
public:
    explicit OwnTable(const Addresses& addresses) {
        std::size_t size = BreakpointTable::smallest;
        while (2 * addresses.size() >= size) size *= BreakpointTable::growth;
        bytes_ = BreakpointTable::bytes(size);
        memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory_ == MAP_FAILED) std::abort();
        table().size = size;
        for (const std::uint64_t at : addresses) table().put(at, resume_of(at));
    }
    ~OwnTable() { munmap(memory_, bytes_); }
    OwnTable(const OwnTable&) = delete;
    std::uint64_t find(std::uint64_t at) const { return table().find(at); }

private:
    BreakpointTable& table() const { return *static_cast<BreakpointTable*>(memory_); }
    std::size_t bytes_;
    void* memory_;
};

// 4096 chains, as a kernel's table of probes has.
class Chains {
public:
    explicit Chains(const Addresses& addresses) {
        for (const std::uint64_t at : addresses) {
            std::unique_ptr<Node>& head = heads_[head_of(at)];
            head = std::make_unique<Node>(at, resume_of(at), std::move(head));
        }
    }
    std::uint64_t find(std::uint64_t at) const {
        for (const Node* node = heads_[head_of(at)].get(); node != nullptr; node = node->next.get())
            if (node->at == at) return node->resume;
        return 0;
    }

private:
    struct Node {
        std::uint64_t at, resume;
        std::unique_ptr<Node> next;
    };
    static std::size_t head_of(std::uint64_t at) { return (at * 0x9e37'79b9'7f4a'7c15) >> 52; }
    std::vector<std::unique_ptr<Node>> heads_ = std::vector<std::unique_ptr<Node>>(heads);
};

class Tree {
public:
    explicit Tree(const Addresses& addresses) {
        for (const std::uint64_t at : addresses) map_.emplace(at, resume_of(at));
    }
    std::uint64_t find(std::uint64_t at) const {
        const auto found = map_.find(at);
        return found == map_.end() ? 0 : found->second;
    }

private:
    std::map<std::uint64_t, std::uint64_t> map_;
};

class Sorted {
public:
    explicit Sorted(const Addresses& addresses) : at_(addresses) {
        std::ranges::sort(at_);
        for (const std::uint64_t at : at_) resume_.push_back(resume_of(at));
    }
    std::uint64_t find(std::uint64_t at) const {
        const std::uint64_t* base = at_.data();
        for (std::size_t count = at_.size(); count > 1;) {
            const std::size_t half = count / 2;
            base = base[half] <= at ? base + half : base;  // without a branch
            count -= half;
        }
        return *base == at ? resume_[static_cast<std::size_t>(base - at_.data())] : 0;
    }

private:
    std::vector<std::uint64_t> at_, resume_;
};

template <class Lookup>
class Cached {
public:
    explicit Cached(const Addresses& addresses) : behind_(addresses) {}
    std::uint64_t find(std::uint64_t at) {
        std::uint64_t resume = 0;
        if (cache_->find(at, 0, resume)) return resume;
        ++missed_;
        resume = behind_.find(at);
        cache_->put(at, 0, resume);
        return resume;
    }
    std::uint64_t missed() const { return missed_; }

private:
    Lookup behind_;
    std::unique_ptr<LookupCache> cache_ = std::make_unique<LookupCache>();
    std::uint64_t missed_ = 0;
};

// Which of the probes are hit, one after the other.
struct Distribution {
    const char* name;
    Addresses (*draw)(const Addresses&);
};
constexpr std::size_t drawn = std::size_t{1} << 18;
template <class Draw>
Addresses draw_with(const Addresses& addresses, Draw&& next) {
    Addresses found(drawn);
    for (std::uint64_t& at : found) at = addresses[next()];
    return found;
}
constexpr Distribution distributions[] = {
    {"uniform",
     [](const Addresses& addresses) {
         return draw_with(addresses, [random = std::mt19937(1), pick = std::uniform_int_distribution<std::size_t>(
                                                                    0, probes - 1)]() mutable { return pick(random); });
     }},
    {"zipf",
     [](const Addresses& addresses) {
         std::vector<double> weights;
         for (std::size_t i = 1; i <= probes; ++i) weights.push_back(1.0 / static_cast<double>(i));
         return draw_with(addresses,
                          [random = std::mt19937(1), pick = std::discrete_distribution<std::size_t>(
                                                         weights.begin(), weights.end())]() mutable { return pick(random); });
     }},
    {"64-hot",
     [](const Addresses& addresses) {
         return draw_with(addresses, [random = std::mt19937(1), pick = std::uniform_int_distribution<std::size_t>(
                                                                    0, hot - 1)]() mutable { return pick(random); });
     }},
};

template <class Lookup>
void add(Group& group, const std::string& id, const Params& params, const Addresses& addresses, const Addresses& hits) {
    const auto lookup = std::make_shared<Lookup>(addresses);
    // Twice: what is first seen, and what it is like from then on.
    Params figures;
    for (int turn = 0; turn < 2; ++turn) {
        std::uint64_t before = 0, wrong = 0;
        if constexpr (requires { lookup->missed(); }) before = lookup->missed();
        for (const std::uint64_t at : hits) wrong += lookup->find(at) != resume_of(at);
        if (wrong != 0) return group.leave_out(id, params, "it finds something else");
        if constexpr (requires { lookup->missed(); })
            figures = {{"found_percent", static_cast<std::int64_t>(100 - 100 * (lookup->missed() - before) / hits.size())}};
    }
    group.add({.id = id,
               .params = params,
               .run =
                   [lookup, &hits](std::uint64_t n) {
                       for (std::uint64_t i = 0; i < n; ++i) asm volatile("" ::"r"(lookup->find(hits[i % drawn])));
                   },
               .figures = [figures] { return figures; }});
}

template <class Lookup>
void add_both(Group& group, const std::string& id, const Params& params, const Addresses& addresses, const Addresses& hits) {
    add<Lookup>(group, id, params, addresses, hits);
    add<Cached<Lookup>>(group, id + "-cached", params, addresses, hits);
}

}  // namespace

void bench_lookups(Run& run) {
    // As functions lie in a program, in the order in which somebody attaches to them.
    constexpr std::uint64_t first = 0x5555'5555'0000;
    Addresses addresses;
    std::minstd_rand random(1);
    for (std::uint64_t at = first; addresses.size() < probes; at += 16 * (1 + random() % 16)) addresses.push_back(at);
    std::ranges::shuffle(addresses, random);
    for (const Distribution& distribution : distributions) {
        const Addresses hits = distribution.draw(addresses);
        Group group(
            run, {.bench = "many_probes",
                  .title = std::string("looking up one of 40,000, ") + distribution.name,
                  .text = "table: the library's. chains: 4096 heads. rbtree: std::map. sorted: binary search without branches. "
                          "-cached: with the library's cache of 4096 sets of 4 entries in front; found_percent: how often it "
                          "had the answer.",
                  .baseline = "lookup-table",
                  .unit = "ns per lookup"});
        const Params params = {{"hits", std::string(distribution.name)}};
        add_both<OwnTable>(group, "lookup-table", params, addresses, hits);
        add_both<Chains>(group, "lookup-chains", params, addresses, hits);
        add_both<Tree>(group, "lookup-rbtree", params, addresses, hits);
        add_both<Sorted>(group, "lookup-sorted", params, addresses, hits);
        group.measure();
    }
}

}  // namespace bench
