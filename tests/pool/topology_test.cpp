// SPDX-License-Identifier: MIT
// Pools on large machines: what they look at first, what they cost, and that nothing is lost among many lists.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "cpus.hpp"
#include "pools.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::pop_on;
using test::push_on;

enum Distance { own, same_cache, same_node, remote };

Distance distance(const Topology& topology, unsigned from, std::size_t to_position) {
    const Topology::Cpu& cpu = topology.cpus[from];
    if (cpu.position == to_position) return own;
    if (cpu.cache_begin <= to_position && to_position < cpu.cache_end) return same_cache;
    if (cpu.node_begin <= to_position && to_position < cpu.node_end) return same_node;
    return remote;
}

// At which position an object of a new pool lies.
std::size_t position_of(const Pool& pool, const void* object) { return (pool.item(object) - 1) * pool.cpus / pool.capacity; }

std::vector<void*> pop_all_on(Pool& pool, unsigned cpu) {
    std::vector<void*> objects;
    while (void* object = pop_on(pool, cpu)) objects.push_back(object);
    return objects;
}

const Topology& small_machine() {
    static const Topology topology = test::interleaved(2, 16, 2);
    return topology;
}
const Topology& large_machine() {
    static const Topology topology = test::interleaved(2, 384, 16);
    return topology;
}

class PoolTopology : public testing::TestWithParam<PoolBackEnd> {
protected:
    void SetUp() override {
        if (GetParam() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
    }
    const test::ToldCpus told_;
};
struct PoolLists : testing::Test {
    const test::ToldCpus told = test::ToldCpus::without_sequences();
};

TEST_P(PoolTopology, ListsAreSearchedNearestFirst) {
    const Topology& topology = small_machine();
    for (const unsigned cpu : {0u, 1u, 2u, 7u, 14u, 15u}) {
        const auto pool = test::pool_on(topology, 64, GetParam());
        ASSERT_EQ(pool->list_count, 16u);
        const auto objects = pop_all_on(*pool, cpu);
        ASSERT_EQ(objects.size(), 64u);
        ASSERT_EQ(std::set(objects.begin(), objects.end()).size(), 64u);
        int of_distance[4] = {};
        Distance reached = own;
        for (void* object : objects) {
            const Distance found = distance(topology, cpu, position_of(*pool, object));
            EXPECT_GE(found, reached) << "CPU " << cpu << " went back to something nearer";
            reached = found;
            ++of_distance[found];
        }
        EXPECT_EQ(of_distance[own], 4);
        EXPECT_EQ(of_distance[same_cache], 4);
        EXPECT_EQ(of_distance[same_node], 24);
        EXPECT_EQ(of_distance[remote], 32);
        const PoolCounters counters = detail::pool_counters(*pool);
        EXPECT_EQ(counters.hits, 64u);
        EXPECT_EQ(counters.misses, 1u);
        EXPECT_GE(counters.steals, 15u) << "each of the other lists was taken from";
        EXPECT_LE(counters.steals, 60u) << "its own objects were not stolen";
        for (void* object : objects) push_on(*pool, cpu, object);
    }
}

// Lists fewer than CPUs: several CPUs look into the same one first, and the order is the same.
TEST_P(PoolTopology, AFewListsAreSearchedNearestFirst) {
    const Topology& topology = large_machine();
    for (const unsigned cpu : {0u, 1u, 100u, 383u}) {
        const auto pool = test::pool_on(topology, 384, GetParam());
        ASSERT_EQ(pool->list_count, 96u);
        const auto objects = pop_all_on(*pool, cpu);
        ASSERT_EQ(objects.size(), 384u);
        const std::uint16_t node = topology.cpus[cpu].node;
        for (std::size_t i = 0; i < objects.size(); ++i) {
            const std::size_t position = position_of(*pool, objects[i]);
            const std::uint32_t list = pool->list_at(static_cast<std::uint32_t>(position));
            EXPECT_EQ(list == pool->list_at(topology.cpus[cpu].position), i < 4) << i;
            EXPECT_EQ(distance(topology, cpu, position) <= same_cache, i < 16) << i;
            EXPECT_EQ(topology.cpus[topology.at[position]].node == node, i < 192) << i;
        }
        for (void* object : objects) push_on(*pool, cpu, object);
    }
}

TEST_P(PoolTopology, WhatWasPushedIsFoundNearestFirst) {
    const Topology& topology = small_machine();
    const auto pool = test::pool_on(topology, 64, GetParam());
    auto objects = pop_all_on(*pool, 0);
    ASSERT_EQ(objects.size(), 64u);
    // One object at each CPU; as stacks, where the pool has them, otherwise in lists.
    std::vector<std::size_t> at(65);
    for (unsigned cpu = 0; cpu < 16; ++cpu) {
        at[pool->item(objects.back())] = topology.cpus[cpu].position;
        push_on(*pool, cpu, objects.back());
        objects.pop_back();
    }
    const unsigned cpu = 5;
    Distance reached = own;
    const PoolCounters before = detail::pool_counters(*pool);
    for (int i = 0; i < 16; ++i) {
        void* const object = pop_on(*pool, cpu);
        ASSERT_NE(object, nullptr);
        const Distance found = distance(topology, cpu, at[pool->item(object)]);
        EXPECT_GE(found, reached);
        reached = found;
        objects.push_back(object);
    }
    EXPECT_EQ(reached, remote);
    EXPECT_EQ(pop_on(*pool, cpu), nullptr);
    const PoolCounters after = detail::pool_counters(*pool);
    EXPECT_EQ(after.hits - before.hits, 16u);
    EXPECT_EQ(after.misses - before.misses, 1u);
    EXPECT_EQ(after.steals - before.steals, 15u);
    for (void* object : objects) push_on(*pool, cpu, object);
    EXPECT_EQ(pool->close(), 0u);
}

TEST_P(PoolTopology, AMissClearsTheBitsOfEmptyListsAndAPushSetsOneAgain) {
    const Topology& topology = large_machine();
    const auto pool = test::pool_on(topology, 2000, GetParam());
    ASSERT_TRUE(pool->clears_bits());
    const auto bits_set = [&] {
        int count = 0;
        for (std::size_t list = 0; list < pool->list_count; ++list) count += is_set(pool->occupancy.filled, list);
        return count;
    };
    EXPECT_EQ(bits_set(), 384);
    auto objects = pop_all_on(*pool, 17);
    ASSERT_EQ(objects.size(), 2000u);
    EXPECT_LE(bits_set(), 1) << "the own list's is not looked at";
    // More than stacks hold, so that some reach the list of the last CPU.
    for (int i = 0; i < 200; ++i) {
        push_on(*pool, 383, objects.back());
        objects.pop_back();
    }
    EXPECT_TRUE(is_set(pool->occupancy.filled, pool->list_at(topology.cpus[383].position)));
    EXPECT_LE(bits_set(), 2);
    for (int i = 0; i < 200; ++i) {
        objects.push_back(pop_on(*pool, 2));
        ASSERT_NE(objects.back(), nullptr);
    }
    EXPECT_EQ(pop_on(*pool, 2), nullptr);
    for (unsigned i = 0; i < 2000; ++i) push_on(*pool, i % 384, objects[i]);
    EXPECT_EQ(pop_all_on(*pool, 100).size(), 2000u);
    for (void* object : objects) push_on(*pool, 0, object);
}

// Threads that are on another CPU at each operation: every list is filled and emptied by all of them, and every bit set and
// cleared. (Stacks need what the kernel does for threads that are where they believe to be: pool_torture.cpp.)
TEST_F(PoolLists, NothingIsLostAmongManyLists) {
    for (const std::size_t capacity : {40, 600, 3000}) {
        const auto pool = test::pool_on(large_machine(), capacity, PoolBackEnd::tagged);
        std::vector<std::atomic<int>> owner(capacity + 1);
        std::atomic<long> wrong{0}, hits{0}, misses{0};
        std::vector<std::thread> threads;
        const int operations = test::slow ? 20'000 : 100'000;
        for (int thread = 1; thread <= 4; ++thread)
            threads.emplace_back([&, thread] {
                std::minstd_rand random(static_cast<unsigned>(thread));
                std::vector<void*> held;
                long some_hits = 0, some_misses = 0;
                for (int i = 0; i < operations; ++i) {
                    const auto cpu = static_cast<unsigned>(random() >> 8) % 384;
                    // Now and then all that there is, so that bits are cleared.
                    const bool greedy = i % 20'000 > 15'000;
                    if (held.empty() || (greedy ? random() % 64 != 0 : random() % 2 == 0)) {
                        if (void* object = pop_on(*pool, cpu)) {
                            if (owner[pool->item(object)].exchange(thread) != 0) ++wrong;
                            held.push_back(object);
                            ++some_hits;
                        } else {
                            ++some_misses;
                        }
                    } else {
                        if (owner[pool->item(held.back())].exchange(0) != thread) ++wrong;
                        push_on(*pool, cpu, held.back());
                        held.pop_back();
                    }
                }
                for (void* object : held) {
                    owner[pool->item(object)] = 0;
                    push_on(*pool, static_cast<unsigned>(thread), object);
                }
                hits += some_hits;
                misses += some_misses;
            });
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(wrong, 0);
        EXPECT_GT(misses, 0) << "no list was ever empty: the run proves nothing";
        const PoolCounters counters = detail::pool_counters(*pool);
        EXPECT_EQ(counters.hits, static_cast<std::uint64_t>(hits));
        EXPECT_EQ(counters.misses, static_cast<std::uint64_t>(misses));
        const auto objects = pop_all_on(*pool, 200);
        EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), capacity);
        for (void* object : objects) push_on(*pool, 200, object);
        EXPECT_EQ(pool->close(), 0u);
    }
}

// A pool may be freed by the last push while another push still sets a bit: bits belong to no pool in particular.
TEST_F(PoolLists, ABitThatIsSetWithoutNeedCostsNothing) {
    const auto pool = test::pool_on(large_machine(), 2000, PoolBackEnd::tagged);
    const auto objects = pop_all_on(*pool, 3);
    for (std::size_t list = 0; list < 512; ++list) set(pool->occupancy.filled, list);
    EXPECT_EQ(pop_on(*pool, 3), nullptr);
    EXPECT_EQ(pop_on(*pool, 300), nullptr);
    for (void* object : objects) push_on(*pool, 7, object);
    EXPECT_EQ(pop_all_on(*pool, 300).size(), 2000u);
    for (void* object : objects) push_on(*pool, 7, object);
}

TEST(PoolOverhead, StaysWithinTheAllowance) {
    for (const std::size_t cpus : {1, 2, 8, 9, 96, 384, 1024}) {
        // Small machines spend a little more on tiny pools.
        const std::size_t fixed = detail::pool_core_bytes + (cpus <= 8 ? 64 * cpus + 64 : 0);
        for (const std::size_t each : {1, 2, 5, 16, 100, 1000}) {
            const std::size_t capacity = each * cpus;
            EXPECT_LE(pool_overhead(capacity, cpus), 16 * capacity + 128 * cpus + fixed)
                << cpus << " CPUs, " << each << " each";
        }
        EXPECT_LE(pool_overhead(1, cpus), 16 + 128 * cpus + fixed);
        EXPECT_LE(pool_overhead(pool_capacity_most, cpus), 16 * pool_capacity_most + 128 * cpus + fixed);
    }
}

// What create() asks of a memory resource is what pool_overhead() says and the objects, no more.
TEST_P(PoolTopology, TakesNoMoreThanItSays) {
    for (const std::size_t cpus : {96, 384}) {
        const Topology topology = test::interleaved(2, cpus, 8);
        for (const std::size_t each : {2, 16}) {
            const std::size_t capacity = each * cpus;
            test::CountingMemory memory;
            auto plan = test::plan_of(capacity, GetParam());
            plan.memory = &memory;
            plan.allocate = [](void* from, std::size_t bytes, std::size_t alignment) noexcept {
                return static_cast<test::CountingMemory*>(from)->allocate(bytes, alignment);
            };
            plan.deallocate = [](void* from, void* at, std::size_t bytes, std::size_t alignment) noexcept {
                static_cast<test::CountingMemory*>(from)->deallocate(at, bytes, alignment);
            };
            const test::OwnedPool pool(create_pool_on(topology, cpus, plan).value());
            EXPECT_LE(memory.bytes(), 64 * capacity + pool_overhead(capacity, cpus));
            if (GetParam() == PoolBackEnd::restartable) {
                EXPECT_EQ(memory.bytes(), 64 * capacity + pool_overhead(capacity, cpus));
            }
            EXPECT_LE(memory.bytes(), 64 * capacity + 16 * capacity + 128 * cpus + detail::pool_core_bytes);
        }
    }
}

TEST_F(PoolLists, EachByteBelongsToOneNode) {
    for (const std::size_t nodes : {1, 2, 3, 4})
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{1'000'003}}) {
            const Topology topology = test::interleaved(nodes, 12 * nodes, 4);
            std::size_t end = 0, calls = 0;
            for_each_node(topology, bytes, [&](std::size_t begin, std::size_t next, unsigned node) {
                EXPECT_EQ(begin, end);
                EXPECT_LE(begin, next);
                EXPECT_EQ(node, calls);
                EXPECT_LE(next - begin, bytes / nodes + 1);
                end = next;
                ++calls;
            });
            EXPECT_EQ(end, bytes);
            EXPECT_EQ(calls, nodes);
        }
}

// The bytes that for_each_node() gives to a node hold the objects that its CPUs look at first.
TEST_F(PoolLists, ObjectsBeginOnTheNodeOfTheirList) {
    const Topology& topology = large_machine();
    const std::size_t capacity = 768;
    const auto pool = test::pool_on(topology, capacity, PoolBackEnd::tagged);
    std::vector<std::pair<std::size_t, std::size_t>> ranges;
    for_each_node(topology, capacity * 64,
                  [&](std::size_t begin, std::size_t end, unsigned) { ranges.emplace_back(begin, end); });
    ASSERT_EQ(ranges.size(), 2u);
    for (const unsigned cpu : {0u, 1u, 382u, 383u}) {
        void* const object = pop_on(*pool, cpu);
        const auto at = static_cast<std::size_t>(static_cast<std::byte*>(object) - pool->objects);
        const auto [begin, end] = ranges[topology.cpus[cpu].node];
        EXPECT_TRUE(begin <= at && at < end) << "CPU " << cpu;
        push_on(*pool, cpu, object);
    }
}

INSTANTIATE_TEST_SUITE_P(By, PoolTopology, testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace dynfunc
