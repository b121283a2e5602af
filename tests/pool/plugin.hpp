// SPDX-License-Identifier: MIT
#pragma once

#include <dynfunc/object_pool.hpp>

#include <cstdint>

namespace plugin {

struct Item {
    std::uint64_t n, unused;
};

struct Interface {
    // Whether all went well: `count` objects are popped and pushed at a time, `times` times.
    bool (*use)(dynfunc::ObjectPool<Item>& pool, std::size_t count, std::size_t times);
    // A pool that the plug-in makes and the program goes on with.
    dynfunc::ObjectPool<Item> (*make)(std::size_t capacity);
};

}  // namespace plugin
