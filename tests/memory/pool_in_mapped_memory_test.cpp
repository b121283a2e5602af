// SPDX-License-Identifier: MIT
// A pool over the public MappedMemory, with huge pages where the system has them and without.
#include <dynfunc/mapped_memory.hpp>
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "address_space.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

struct Frame {
    std::uint64_t n;
    std::byte rest[1000];
};

class PoolInMappedMemory : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(, PoolInMappedMemory, testing::Bool(),
                         [](const auto& huge_pages) { return huge_pages.param ? "HugePages" : "Pages"; });

TEST_P(PoolInMappedMemory, HoldsItsObjectsAndLeavesNothing) {
    MappedMemory memory({.huge_pages = GetParam()});
    const auto use = [&] {
        auto pool = ObjectPool<Frame>::create({.capacity = 5000, .memory = &memory, .alignment = 64});
        ASSERT_TRUE(pool) << pool.error().message();
        std::vector<Pooled<Frame>> all;
        while (auto frame = pool->try_pop()) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frame.get()) % 64, 0u);
            frame->n = all.size();
            all.push_back(std::move(frame));
        }
        ASSERT_EQ(all.size(), 5000u);
        for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i]->n, i);
    };
    use();
    const std::size_t mappings = test::count_mappings();
    use();
    if (!test::address_sanitizer && !test::thread_sanitizer) {  // these map memory of their own
        EXPECT_EQ(test::count_mappings(), mappings);
    }
}

}  // namespace
}  // namespace dynfunc
