// SPDX-License-Identifier: MIT
#include <dynfunc/mimalloc_heap.hpp>

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstring>
#include <latch>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"

namespace dynfunc {
namespace {

constexpr const char* wrong_thread = "dynfunc: a MimallocHeap allocates only in the thread that made it";

bool is_aligned(const void* memory, std::size_t alignment) { return reinterpret_cast<std::uintptr_t>(memory) % alignment == 0; }

TEST(MimallocHeap, HoldsWhatIsWritten) {
    MimallocHeap heap;
    std::vector<std::pair<unsigned char*, std::size_t>> blocks;
    for (std::size_t bytes = 0; bytes < 5'000'000; bytes = bytes * 3 + 1) {
        auto* block = static_cast<unsigned char*>(heap.allocate(bytes));
        std::memset(block, static_cast<int>(blocks.size()), bytes);
        blocks.push_back({block, bytes});
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        const auto [block, bytes] = blocks[i];
        EXPECT_TRUE(std::all_of(block, block + bytes, [i](unsigned char each) { return each == i; }));
        heap.deallocate(block, bytes);
    }
}

TEST(MimallocHeap, HonoursAlignment) {
    MimallocHeap heap;
    for (std::size_t alignment = 1; alignment <= 1 << 20; alignment *= 2) {
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, alignment}) {
            void* block = heap.allocate(bytes, alignment);
            EXPECT_TRUE(is_aligned(block, alignment)) << alignment;
            std::memset(block, 1, bytes);
            heap.deallocate(block, bytes, alignment);
        }
    }
}

TEST(MimallocHeap, RefusesMoreThanThereIs) {
    MimallocHeap heap;
    EXPECT_THROW(static_cast<void>(heap.allocate(SIZE_MAX)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(heap.allocate(SIZE_MAX / 2 + 1)), std::bad_alloc);
    void* block = heap.allocate(10);
    heap.deallocate(block, 10);
}

TEST(MimallocHeap, ServesContainers) {
    MimallocHeap heap;
    std::pmr::vector<std::pmr::string> texts(&heap);
    for (int i = 0; i < 1000; ++i) texts.emplace_back("a text that is too long to be kept in the string itself");
    EXPECT_EQ(texts[999].get_allocator().resource(), &heap);
    std::pmr::vector<std::pmr::string> moved(std::move(texts));
    EXPECT_EQ(moved.size(), 1000u);
}

TEST(MimallocHeap, EqualsItselfAlone) {
    MimallocHeap heap, other;
    EXPECT_TRUE(heap.is_equal(heap));
    EXPECT_FALSE(heap.is_equal(other));
    EXPECT_FALSE(heap.is_equal(*std::pmr::new_delete_resource()));
}

TEST(MimallocHeap, AnyThreadMayFree) {
    MimallocHeap heap;
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < 4000; ++i) std::memset(blocks.emplace_back(heap.allocate(64, 64)), 1, 64);
    {
        std::vector<std::jthread> threads;
        for (std::size_t thread = 0; thread < 4; ++thread)
            threads.emplace_back([&, thread] {
                for (std::size_t i = thread; i < blocks.size(); i += 4) heap.deallocate(blocks[i], 64, 64);
            });
        for (int i = 0; i < 4000; ++i) heap.deallocate(heap.allocate(64, 64), 64, 64);
    }
    void* block = heap.allocate(64, 64);
    heap.deallocate(block, 64, 64);
}

TEST(MimallocHeap, EachThreadMayHaveItsOwn) {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.emplace_back([] {
            MimallocHeap heap;
            std::pmr::vector<int> numbers(&heap);
            for (int i = 0; i < 10000; ++i) numbers.push_back(i);
            EXPECT_EQ(numbers[9999], 9999);
        });
}

TEST(MimallocHeapDeathTest, AllocatingInAnotherThreadEndsTheProcess) {
    MimallocHeap heap;
    EXPECT_DEATH(std::thread([&] { static_cast<void>(heap.allocate(8)); }).join(), wrong_thread);
    EXPECT_DEATH(
        {
            std::optional<MimallocHeap> of_ended_thread;
            std::thread([&] { of_ended_thread.emplace(); }).join();
            static_cast<void>(of_ended_thread->allocate(8));
        },
        wrong_thread);
}

// The new thread lies where the ended one lay, often with the same pthread_t and the same thread-locals.
TEST(MimallocHeapDeathTest, AThreadThatLooksLikeTheEndedOneIsAnother) {
    EXPECT_DEATH(
        {
            std::optional<MimallocHeap> heap;
            std::thread([&] { heap.emplace(); }).join();
            for (int i = 0; i < 10; ++i)
                std::thread([&] {
                    MimallocHeap of_this_thread;
                    static_cast<void>(heap->allocate(8));
                }).join();
        },
        wrong_thread);
}

TEST(MimallocHeap, WhatItAllocatedOutlivesIt) {
    void* blocks[100];
    {
        MimallocHeap heap;
        for (void*& block : blocks) std::memset(block = heap.allocate(1000), 7, 1000);
    }
    MimallocHeap other;
    for (void* block : blocks) {
        EXPECT_EQ(static_cast<unsigned char*>(block)[999], 7);
        other.deallocate(block, 1000);
    }
}

TEST(MimallocHeap, WhatItAllocatedOutlivesItsThread) {
    std::vector<void*> blocks;
    std::thread([&] {
        MimallocHeap heap;
        for (int i = 0; i < 100; ++i) std::memset(blocks.emplace_back(heap.allocate(1000)), 7, 1000);
    }).join();
    MimallocHeap other;
    for (void* block : blocks) {
        EXPECT_EQ(static_cast<unsigned char*>(block)[999], 7);
        other.deallocate(block, 1000);
    }
}

TEST(MimallocHeap, MayBeDestroyedAfterItsThread) {
    for (int i = 0; i < 20; ++i) {
        std::optional<MimallocHeap> heap;
        void* block = nullptr;
        std::thread([&] { std::memset(block = heap.emplace().allocate(1000), 7, 1000); }).join();
        EXPECT_EQ(static_cast<unsigned char*>(block)[999], 7);
        if (i % 2 == 0) heap->deallocate(block, 1000);
        heap.reset();
        if (i % 2 != 0) MimallocHeap().deallocate(block, 1000);
    }
}

TEST(MimallocHeap, MayBeDestroyedInAnotherThreadWhileItsOwnGoesOn) {
    auto heap = std::make_unique<MimallocHeap>();
    void* block = heap->allocate(1000);
    std::thread([&] { heap.reset(); }).join();
    MimallocHeap other;
    void* next = other.allocate(1000);
    std::memset(block, 1, 1000);
    std::memset(next, 2, 1000);
    EXPECT_EQ(static_cast<unsigned char*>(block)[0], 1);
    other.deallocate(block, 1000);
    other.deallocate(next, 1000);
}

// Destructors of thread-locals run before mimalloc's own end of a thread, those of keys after it.
TEST(MimallocHeap, ServesThreadLocalsToTheirEnd) {
    static std::atomic<int> grown{0};
    struct Growing {
        explicit Growing(MimallocHeap& heap) : numbers(1000, 7, &heap) {}
        ~Growing() {
            numbers.resize(100000, 8);
            grown += numbers[999] == 7 && numbers[99999] == 8;
        }
        std::pmr::vector<int> numbers;
    };
    std::thread([] {
        thread_local std::unique_ptr<MimallocHeap> owner;  // destroyed last
        owner = std::make_unique<MimallocHeap>();
        thread_local MimallocHeap heap;
        thread_local Growing in_owned(*owner), in_heap(heap);
        EXPECT_EQ(in_owned.numbers.size() + in_heap.numbers.size(), 2000u);
    }).join();
    EXPECT_EQ(grown, 2);
}

pthread_key_t heap_key;
std::atomic<int> ended_heaps{0};

void end_of_key(void* value) {
    delete static_cast<MimallocHeap*>(value);
    MimallocHeap late;  // of a thread that mimalloc has ended already
    std::pmr::vector<int> numbers(1000, 7, &late);
    ended_heaps += numbers[999] == 7;
}

TEST(MimallocHeap, MayBeDestroyedByAKeysDestructor) {
    ASSERT_EQ(pthread_key_create(&heap_key, end_of_key), 0);
    for (int i = 0; i < 20; ++i)
        std::thread([] {
            auto* heap = new MimallocHeap;
            static_cast<void>(heap->allocate(100));
            pthread_setspecific(heap_key, heap);
        }).join();
    pthread_key_delete(heap_key);
    EXPECT_EQ(ended_heaps, 20);
}

TEST(MimallocHeap, AChildGoesOnWithIt) {
    MimallocHeap heap;
    std::pmr::vector<int> numbers(1000, 7, &heap);
    EXPECT_EQ(test::in_child([&] {
                  numbers.resize(100000, 8);
                  return numbers[999] == 7 && numbers[99999] == 8 ? 42 : 1;
              }).status,
              42);
}

}  // namespace
}  // namespace dynfunc
