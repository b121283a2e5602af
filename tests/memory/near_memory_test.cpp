// SPDX-License-Identifier: MIT
// Places that a jump reaches, with every shape of a distance of which bits are given; and that nothing is ever mapped over.
#include "near_memory.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace dynfunc {
namespace {

void something_to_be_near_to() {}

Address here() { return Address::of(&something_to_be_near_to); }

bool fits(const Reach& reach, Address at) {
    const std::ptrdiff_t distance = at - reach.from;
    return reach.least <= distance && distance <= reach.most &&
           (static_cast<std::uint32_t>(distance) & reach.given_mask) == reach.given;
}

struct Mapping {
    AddressRange range;
    std::string rights, name;
};
std::vector<Mapping> mappings() {
    std::ifstream maps("/proc/self/maps");
    std::vector<Mapping> all;
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0, end = 0;
        char rights[8] = "";
        int name = 0;
        if (std::sscanf(line.c_str(), "%zx-%zx %7s %*s %*s %*s %n", &begin, &end, rights, &name) == 3)
            all.push_back({{Address{begin}, Address{end}}, rights, line.substr(static_cast<std::size_t>(name))});
    }
    return all;
}

TEST(Reach, FindsTheNextDistanceWithTheGivenBits) {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        // At most 12 bits are free, so that all distances can be listed.
        std::uint32_t free = 0;
        for (int i = 0; i < 12; ++i) free |= std::uint32_t{1} << random() % 32;
        Reach reach{.from = here(), .given_mask = ~free, .given = static_cast<std::uint32_t>(random()) & ~free};
        std::vector<std::int32_t> all;
        for (std::uint32_t some = free;; some = (some - 1) & free) {
            all.push_back(static_cast<std::int32_t>(reach.given | some));
            if (some == 0) break;
        }
        std::ranges::sort(all);
        if (round % 3 == 0) reach.least = all[random() % all.size()];
        if (round % 3 == 1) reach.most = all[random() % all.size()];
        for (int i = 0; i < 50; ++i) {
            const auto lowest = i % 2 == 0 ? static_cast<std::int32_t>(random())
                                           : all[random() % all.size()] + static_cast<std::int32_t>(random() % 3) - 1;
            const auto expected =
                std::ranges::find_if(all, [&](std::int32_t x) { return x >= lowest && x >= reach.least && x <= reach.most; });
            const auto found = reach.first_distance(lowest);
            ASSERT_EQ(found.has_value(), expected != all.end());
            if (found) {
                ASSERT_EQ(*found, *expected) << std::hex << reach.given_mask << ' ' << reach.given << ' ' << lowest;
            }
        }
    }
    const Reach all{.from = here()};
    EXPECT_EQ(all.first_distance(std::int64_t{INT32_MIN} - 5), INT32_MIN);
    EXPECT_EQ(all.first_distance(std::int64_t{INT32_MAX} + 1), std::nullopt);
    EXPECT_EQ(all.first_distance(-1), -1);
}

TEST(NearMemory, GivesExecutableZeroedMemoryInReach) {
    NearMemory memory;
    std::vector<std::pair<Address, std::size_t>> taken;
    std::mt19937 random(2);
    for (int round = 0; round < 600; ++round) {
        // No byte given, one to three breakpoints, or the upper ones as a pun gives them.
        Reach reach{.from = here() + static_cast<std::ptrdiff_t>(random() % 100'000)};
        for (unsigned byte = 0; byte < 4; ++byte)
            if (round % 4 != 0 && random() % 3 == 0) {
                reach.given_mask |= 0xffu << (8 * byte);
                reach.given |= 0xccu << (8 * byte);
            }
        if (reach.given_mask == 0xffff'ffff) continue;
        // (With the lower twelve bits given, every place has the same offset in its page.)
        const std::size_t bytes = 5 + (reach.given_mask == 0 ? random() % 400 : 0);
        const bool crosses = (reach.given_mask & 0xfff) == 0xfff && (reach.from.value + reach.given) % 4096 + bytes > 4096;
        if (crosses) continue;
        const auto at = memory.take(reach, bytes);
        ASSERT_TRUE(at) << at.error().message() << std::hex << reach.given_mask;
        ASSERT_TRUE(fits(reach, *at));
        for (const auto& [other, size] : taken)
            ASSERT_TRUE(*at + static_cast<std::ptrdiff_t>(bytes) <= other || other + static_cast<std::ptrdiff_t>(size) <= *at);
        taken.emplace_back(*at, bytes);
        for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(at->as<const char*>()[i], 0);
    }
    const auto all = mappings();
    for (const auto& [at, size] : taken) {
        const auto mapping = std::ranges::find_if(all, [&](const Mapping& m) { return m.range.contains(at); });
        ASSERT_NE(mapping, all.end());
        EXPECT_EQ(mapping->rights, "r-xp");
    }
    std::printf("%zu places on %zu pages\n", taken.size(), memory.pages());
    EXPECT_LT(memory.pages(), taken.size());
}

TEST(NearMemory, TakesTheNearestPage) {
    NearMemory memory;
    const auto at = memory.take({.from = here()}, 64);
    ASSERT_TRUE(at);
    const auto all = mappings();
    // Nothing that is free lies between; nothing is free nearer than the object itself is large.
    const std::ptrdiff_t distance = std::abs(*at - here());
    std::printf("%td KiB away\n", distance / 1024);
    EXPECT_LT(distance, std::ptrdiff_t{1} << 30);
}

// Where programs lie that are not position-independent.
TEST(NearMemory, ALowAddressReachesNothingBelowZero) {
    NearMemory memory;
    const Address low{0x40'1000};
    for (const std::int32_t least : {INT32_MIN, -(1 << 30)}) {
        const auto at = memory.take({.from = low, .least = least, .most = 1 << 30}, 64);
        ASSERT_TRUE(at) << at.error().message();
        EXPECT_GE(*at - low, -static_cast<std::ptrdiff_t>(low.value));
        EXPECT_LE(*at - low, 1 << 30);
    }
}

TEST(NearMemory, AWhollyGivenDistanceIsThatPlaceOrNone) {
    NearMemory memory;
    const auto free = memory.take({.from = here(), .given_mask = 0xfff, .given = 0}, 16);
    ASSERT_TRUE(free);
    // The page behind one that it has is free, or somebody's.
    const auto distance = static_cast<std::uint32_t>(*free - here());
    const Reach exactly{.from = here(), .given_mask = 0xffff'ffff, .given = distance};
    const auto again = memory.take(exactly, 16);
    ASSERT_FALSE(again) << "it is taken";
    EXPECT_EQ(again.error().code, Errc::out_of_reach);
    EXPECT_EQ(again.error().address, here());
    memory.release(*free, 16);
    EXPECT_EQ(memory.take(exactly, 16), *free);
}

TEST(NearMemory, NeverMapsOverAnything) {
    // All that is in reach of a short jump around a place is somebody's.
    constexpr std::size_t size = 64 << 12;
    void* const mine = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(mine, MAP_FAILED);
    std::fill_n(static_cast<unsigned char*>(mine), size, 0x5a);
    NearMemory memory;
    const Address middle = Address::of(static_cast<char*>(mine)) + size / 2;
    const auto refused = memory.take({.from = middle, .given_mask = 0, .given = 0, .least = -(32 << 10), .most = 32 << 10}, 16);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::out_of_reach);
    EXPECT_EQ(memory.pages(), 0u);
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(static_cast<unsigned char*>(mine)[i], 0x5a);
    // Free, but only since it looked: it looks again, if it is told to.
    ASSERT_EQ(munmap(static_cast<char*>(mine) + size / 2, 4096), 0);
    EXPECT_FALSE(memory.take({.from = middle, .given_mask = 0, .given = 0, .least = -(32 << 10), .most = 32 << 10}, 16));
    memory.look_again();
    const auto at = memory.take({.from = middle, .given_mask = 0, .given = 0, .least = -(32 << 10), .most = 32 << 10}, 16);
    ASSERT_TRUE(at) << at.error().message();
    EXPECT_EQ(at->value & ~std::uintptr_t{4095}, middle.value);
    // And the other way round: what was free when it looked is taken now.
    ASSERT_EQ(munmap(static_cast<char*>(mine) + size / 2 + 4096, 4096), 0);
    memory.look_again();
    const auto next = memory.take({.from = middle, .given_mask = 0, .given = 0, .least = 4096, .most = 8191 - 16}, 16);
    EXPECT_TRUE(next);
    munmap(mine, size / 2);
    munmap(static_cast<char*>(mine) + size / 2 + 8192, size / 2 - 8192);
}

TEST(NearMemory, LeavesTheHeapAndTheStackRoomToGrow) {
    NearMemory memory;
    Address heap_end, stack_begin;
    for (const Mapping& mapping : mappings()) {
        if (mapping.name == "[heap]") heap_end = mapping.range.end;
        if (mapping.name == "[stack]") stack_begin = mapping.range.begin;
    }
    ASSERT_TRUE(stack_begin);
    const auto below_stack = memory.take({.from = stack_begin}, 16);
    if (below_stack && *below_stack < stack_begin) {
        EXPECT_GE(stack_begin - *below_stack, 16 << 20);
    }
    if (!heap_end) GTEST_SKIP() << "no heap";
    for (int i = 0; i < 50; ++i) {
        const auto at =
            memory.take({.from = heap_end, .given_mask = 0xff'f000, .given = static_cast<std::uint32_t>(i) << 12}, 16);
        if (at) {
            EXPECT_FALSE(*at >= heap_end && *at - heap_end < 256 << 20) << i;
        }
    }
}

TEST(NearMemory, FindsRoomForThousands) {
    NearMemory memory;
    std::mt19937 random(3);
    std::size_t refused = 0;
    constexpr int count = 4000;
    for (int i = 0; i < count; ++i) {
        const Address site = here() + i * 16;
        if (!memory.take({.from = site, .given_mask = 0xff00'00ff, .given = 0xcc00'00cc}, 5)) ++refused;
        if (!memory.take({.from = site, .given_mask = 0xf, .given = static_cast<std::uint32_t>(-site.value) & 0xf}, 300))
            ++refused;
    }
    EXPECT_EQ(refused, 0u);
    std::printf("%d sites on %zu pages\n", count, memory.pages());
}

}  // namespace
}  // namespace dynfunc
