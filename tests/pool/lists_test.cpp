// SPDX-License-Identifier: MIT
// The two forms of a list, alone: what they give, what closing means, and that takes are counted past the end of their bits.
#include "lists.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace dynfunc {
namespace {

using Links = std::array<PoolLink, PoolSet::most_items>;

// One interface for both, and a head to begin with.
struct Set : PoolSet {
    static constexpr std::uint64_t bits = item_bits;
    bool put(Links& links, const PoolItems& items) { return PoolSet::put(links.data(), items); }
    PoolItems take(Links& links, std::uint64_t most) { return PoolSet::take(links.data(), most); }
    PoolItem take_one(Links&) { return PoolSet::take_one(); }
    std::uint64_t close(Links&) { return PoolSet::close(); }
    std::uint64_t takes() const { return PoolSet::takes(item_bits); }
    bool is_empty() const { return are_empty(head(std::memory_order_relaxed), true); }
    void begin_with(std::uint64_t head) { head_.store(head); }
};
struct Chain : PoolChain {
    static constexpr std::uint64_t bits = item_bits;
    bool put(Links& links, const PoolItems& items) { return PoolChain::put(links.data(), items); }
    PoolItems take(Links& links, std::uint64_t most) { return PoolChain::take(links.data(), most); }
    PoolItem take_one(Links& links) { return PoolChain::take_one(links.data()); }
    std::uint64_t close(Links& links) { return PoolChain::close(links.data()); }
    std::uint64_t takes() const { return PoolChain::takes(item_bits); }
    bool is_empty() const { return are_empty(head(std::memory_order_relaxed), false); }
    void begin_with(std::uint64_t head) { head_.store(head); }
};

template <class List>
struct PoolListForms : testing::Test {
    Links links{};
    List list;

    // Links items first to last and puts them at once.
    bool put(PoolItem first, PoolItem last) {
        for (PoolItem item = first; item < last; ++item) links[item - 1].store(static_cast<std::uint32_t>(item + 1));
        return list.put(links, {first, last, last - first + 1});
    }
    std::vector<PoolItem> items_of(const PoolItems& items) {
        std::vector<PoolItem> all;
        for (PoolItem item = items.first; all.size() < items.count; item = links[item - 1].load()) all.push_back(item);
        if (!all.empty()) {
            EXPECT_EQ(all.back(), items.last);
        }
        return all;
    }
};
using Forms = testing::Types<Set, Chain>;
TYPED_TEST_SUITE(PoolListForms, Forms);

TYPED_TEST(PoolListForms, GivesEachItemOnce) {
    EXPECT_TRUE(this->list.is_empty());
    EXPECT_EQ(this->list.take_one(this->links), 0u);
    ASSERT_TRUE(this->put(1, PoolSet::most_items));
    EXPECT_FALSE(this->list.is_empty());
    std::set<PoolItem> taken;
    for (PoolItem item = 0; (item = this->list.take_one(this->links)) != 0;) EXPECT_TRUE(taken.insert(item).second) << item;
    EXPECT_EQ(taken.size(), PoolSet::most_items);
    EXPECT_EQ(*taken.begin(), 1u);
    EXPECT_EQ(*taken.rbegin(), PoolSet::most_items);
    EXPECT_TRUE(this->list.is_empty());
    EXPECT_EQ(this->list.takes(), PoolSet::most_items);
}

TYPED_TEST(PoolListForms, GivesAsManyAsAskedForLinked) {
    ASSERT_TRUE(this->put(5, 11));
    ASSERT_TRUE(this->put(20, 20));
    std::set<PoolItem> taken;
    for (const std::uint64_t most : {3u, 1u, 100u}) {
        const auto items = this->items_of(this->list.take(this->links, most));
        EXPECT_EQ(items.size(), most == 100 ? 4u : most);
        for (const PoolItem item : items) EXPECT_TRUE(taken.insert(item).second) << item;
    }
    EXPECT_EQ(taken, (std::set<PoolItem>{5, 6, 7, 8, 9, 10, 11, 20}));
    EXPECT_EQ(this->list.take(this->links, 1).count, 0u);
    EXPECT_EQ(this->list.takes(), 3u);
}

TYPED_TEST(PoolListForms, ClosedGivesAndTakesNothing) {
    ASSERT_TRUE(this->put(1, 3));
    EXPECT_EQ(this->list.close(this->links), 3u);
    EXPECT_EQ(this->list.close(this->links), 0u) << "counted once";
    EXPECT_FALSE(this->list.is_empty()) << "so that whoever searches looks closer";
    EXPECT_EQ(this->list.take_one(this->links), 0u);
    EXPECT_EQ(this->list.take(this->links, 9).count, 0u);
    for (PoolItem item = 4; item <= PoolSet::most_items; ++item) EXPECT_FALSE(this->put(item, item)) << item;
    EXPECT_EQ(this->list.take_one(this->links), 0u);
    EXPECT_EQ(this->list.takes(), 0u);
}

TYPED_TEST(PoolListForms, ClosedWhileEmptyIsNotEmptyEither) {
    EXPECT_EQ(this->list.close(this->links), 0u);
    EXPECT_FALSE(this->list.is_empty());
    EXPECT_FALSE(this->put(1, 1));
}

TYPED_TEST(PoolListForms, TakesAreCountedPastTheirBits) {
    this->list.begin_with(~std::uint64_t{0} << TypeParam::bits);  // one more, and the upper part begins again
    ASSERT_TRUE(this->put(1, 4));
    const std::uint64_t before = (std::uint64_t{1} << (64 - TypeParam::bits)) - 1;
    EXPECT_EQ(this->list.takes(), before);
    EXPECT_NE(this->list.take_one(this->links), 0u);
    EXPECT_EQ(this->list.takes(), before + 1);
    EXPECT_EQ(this->list.take(this->links, 2).count, 2u);
    EXPECT_EQ(this->list.takes(), before + 2);
    EXPECT_NE(this->list.take_one(this->links), 0u);
    EXPECT_TRUE(this->list.is_empty());
}

}  // namespace
}  // namespace dynfunc
