// SPDX-License-Identifier: MIT
// Flavours of the bench "readers": empty, which protects nothing; dynfunc, the library's; dynfunc-outermost, what an event
// opens around its callbacks.
#include <dynfunc/grace_period.hpp>

#include "reader_flavours.hpp"

namespace bench::readers {

constinit Protected protected_data;

namespace {

struct Nothing {};

// The library opens it where it knows that the thread has a word and is in no section.
void read_outermost(std::size_t sections) {
    { const dynfunc::ReadSection registered; }
    read_in_sections<dynfunc::detail::OutermostSection>(sections);
}

}  // namespace

void add_own(std::vector<Flavour>& all) {
    all.push_back({.id = "empty", .read = &read_in_sections<Nothing>});
    all.push_back({.id = "dynfunc", .read = &read_in_sections<dynfunc::ReadSection>, .synchronize = &dynfunc::synchronize});
    all.push_back({.id = "dynfunc-outermost", .read = &read_outermost});
}

std::vector<Flavour> flavours() {
    std::vector<Flavour> all;
    add_own(all);
    add_urcu_memb(all);
    add_urcu_bp(all);
    add_counters(all);
    return all;
}

}  // namespace bench::readers
