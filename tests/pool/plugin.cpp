// SPDX-License-Identifier: MIT
// A shared object with pops and pushes inline: their sequences, descriptors and ways out lie here, and go with it.
#include "plugin.hpp"

namespace plugin {
namespace {

bool use(dynfunc::ObjectPool<Item>& pool, std::size_t count, std::size_t times) {
    Item* held[64];
    bool good = true;
    for (std::size_t i = 0; i < times; ++i) {
        std::size_t popped = 0;
        while (popped < count && (held[popped] = pool.try_pop_raw()) != nullptr) held[popped++]->n = i;
        for (std::size_t j = 0; j < popped; ++j) good &= held[j]->n == i;
        while (popped != 0) pool.push(held[--popped]);
    }
    return good;
}

// The options have no code: an on_create that lies here would not be called later either.
dynfunc::ObjectPool<Item> make(std::size_t capacity) {
    return dynfunc::ObjectPool<Item>::create({.capacity = capacity, .checks = dynfunc::PoolChecks::off}).value();
}

}  // namespace

extern "C" [[gnu::visibility("default")]] const Interface plugin_interface{&use, &make};

}  // namespace plugin
