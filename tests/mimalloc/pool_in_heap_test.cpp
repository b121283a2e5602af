// SPDX-License-Identifier: MIT
// A pool whose memory comes from a heap of mimalloc's: it leaves nothing there, wherever and whenever it is freed.
#include <dynfunc/mimalloc_heap.hpp>
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace dynfunc {
namespace {

struct Frame {
    Frame() { ++living; }
    ~Frame() { --living; }
    std::uint64_t n = 0;
    static inline std::atomic<int> living{0};
};

// What is allocated and not given back.
class Counting : public std::pmr::memory_resource {
public:
    explicit Counting(std::pmr::memory_resource& from) : from_(from) {}
    std::size_t bytes() const { return bytes_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* memory = from_.allocate(bytes, alignment);
        bytes_ += bytes;
        return memory;
    }
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
        bytes_ -= bytes;
        from_.deallocate(memory, bytes, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

    std::pmr::memory_resource& from_;
    std::atomic<std::size_t> bytes_{0};
};

class PoolInMimallocHeap : public testing::Test {
protected:
    MimallocHeap heap_;
    Counting memory_{heap_};

    ObjectPool<Frame> make(std::size_t alignment = alignof(Frame)) {
        auto pool = ObjectPool<Frame>::create({.capacity = 256, .memory = &memory_, .alignment = alignment});
        EXPECT_TRUE(pool) << pool.error().message();
        EXPECT_GE(memory_.bytes(), 256 * sizeof(Frame));
        return std::move(*pool);
    }
    void TearDown() override {
        EXPECT_EQ(memory_.bytes(), 0u);
        EXPECT_EQ(Frame::living, 0);
    }
};

TEST_F(PoolInMimallocHeap, ServesEveryThread) {
    ObjectPool<Frame> pool = make();
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.emplace_back([&] {
            for (int i = 0; i < 10000; ++i)
                if (auto frame = pool.try_pop()) ++frame->n;
        });
    threads.clear();
    std::uint64_t uses = 0;
    std::vector<Pooled<Frame>> all;
    while (auto frame = pool.try_pop()) uses += all.emplace_back(std::move(frame))->n;
    EXPECT_EQ(all.size(), 256u);
    EXPECT_EQ(uses, pool.counters().hits - 256);
}

TEST_F(PoolInMimallocHeap, AlignsEveryObject) {
    for (std::size_t alignment = alignof(Frame); alignment <= 4096; alignment *= 2) {
        ObjectPool<Frame> pool = make(alignment);
        std::vector<Pooled<Frame>> all;
        while (auto frame = pool.try_pop()) all.push_back(std::move(frame));
        EXPECT_EQ(all.size(), 256u);
        for (const auto& frame : all) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frame.get()) % alignment, 0u) << alignment;
    }
}

TEST_F(PoolInMimallocHeap, IsFreedByTheThreadThatGivesTheLastObjectBack) {
    Pooled<Frame> last;
    {
        ObjectPool<Frame> pool = make();
        last = pool.try_pop();
        ASSERT_TRUE(last);
    }
    EXPECT_EQ(Frame::living, 256);
    EXPECT_NE(memory_.bytes(), 0u);
    std::thread([last = std::move(last)]() mutable { last = {}; }).join();
}

TEST_F(PoolInMimallocHeap, IsFreedAfterTheHeapsThreadHasEnded) {
    std::optional<MimallocHeap> heap;
    std::optional<Counting> memory;
    std::optional<ObjectPool<Frame>> pool;
    std::thread([&] {
        memory.emplace(heap.emplace());
        pool = *ObjectPool<Frame>::create({.capacity = 256, .memory = &*memory});
        if (auto frame = pool->try_pop()) frame->n = 7;
    }).join();
    std::uint64_t sum = 0;
    std::vector<Pooled<Frame>> all;
    while (auto frame = pool->try_pop()) sum += all.emplace_back(std::move(frame))->n;
    EXPECT_EQ(sum, 7u);
    all.clear();
    pool.reset();
    EXPECT_EQ(memory->bytes(), 0u);
}

}  // namespace
}  // namespace dynfunc
