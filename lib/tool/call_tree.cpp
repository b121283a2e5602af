// SPDX-License-Identifier: MIT
#include "call_tree.hpp"

#include <algorithm>

namespace dynfunc::tool {

void CallTree::add(std::span<const trace::CallNode> recorded) {
    std::vector<std::size_t> places(recorded.size());
    for (std::size_t i = 1; i < recorded.size(); ++i) {
        const trace::CallNode& from = recorded[i];
        if (from.parent >= i) continue;  // its thread was killed while it was made
        const std::size_t parent = places[from.parent];
        const auto [place, is_new] = places_.emplace(std::pair(parent, std::size_t{from.function}), nodes_.size());
        if (is_new) {
            nodes_.push_back({.function = from.function, .parent = parent});
            nodes_[parent].children.push_back(place->second);
        }
        Node& node = nodes_[place->second];
        node.calls += from.calls;
        node.ended += from.ended;
        node.total += from.total;
        places[i] = place->second;
    }
}

std::vector<CallTree::Times> CallTree::times() const {
    std::vector<Times> times(nodes_.size());
    // Until a node's turn comes, `self` is what its children took.
    for (std::size_t i = nodes_.size(); i-- > 0;) {
        const std::uint64_t inside = times[i].self;
        times[i].total = std::max(inside, nodes_[i].total);
        times[i].self = times[i].total - inside;
        if (i != 0) times[nodes_[i].parent].self += times[i].total;
    }
    return times;
}

}  // namespace dynfunc::tool
