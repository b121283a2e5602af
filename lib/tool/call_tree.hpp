// SPDX-License-Identifier: MIT
// Which function called which, over all threads and processes of a traced program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "recording.hpp"

namespace dynfunc::tool {

class CallTree {
public:
    struct Node {
        std::size_t function = 0, parent = 0;
        std::uint64_t calls = 0, ended = 0, total = 0;  // ticks; of calls that have ended, with what they called
        std::vector<std::size_t> children{};
    };

    // `recorded`: of one slot, the root first; parents stand before their children.
    void add(std::span<const trace::CallNode> recorded);
    void add_unplaced(std::uint64_t calls) noexcept { unplaced_ += calls; }

    // The root, which is no function, first; parents stand before their children.
    const std::vector<Node>& nodes() const noexcept { return nodes_; }
    // Of each node, in ticks. Of a call that has not ended nothing is known but what those inside of it took.
    struct Times {
        std::uint64_t total = 0, self = 0;  // self: without what it called
    };
    std::vector<Times> times() const;
    std::uint64_t unplaced() const noexcept { return unplaced_; }

private:
    std::vector<Node> nodes_{1};
    std::map<std::pair<std::size_t, std::size_t>, std::size_t> places_;  // by parent and function
    std::uint64_t unplaced_ = 0;
};

}  // namespace dynfunc::tool
