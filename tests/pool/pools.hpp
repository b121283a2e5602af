// SPDX-License-Identifier: MIT
// What the tests of the object pool make pools of: objects that count themselves, memory that counts its blocks, and pools that
// are told on which CPU they run.
#pragma once

#include <dynfunc/object_pool.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <ostream>
#include <set>
#include <vector>

namespace dynfunc {

inline bool operator==(const PoolCounters& a, const PoolCounters& b) {
    return a.hits == b.hits && a.misses == b.misses && a.steals == b.steals;
}
inline void PrintTo(const PoolCounters& counters, std::ostream* out) {
    *out << counters.hits << " hits, " << counters.misses << " misses, " << counters.steals << " steals";
}

namespace test {

// Lives once, dies once.
struct Counted {
    Counted() noexcept { ++alive; }
    ~Counted() {
        --alive;
        if (!lives) ++died_twice;
        lives = false;
    }
    Counted(const Counted&) = delete;

    std::uint64_t value = 0;
    bool lives = true;
    static inline std::atomic<long> alive{0}, died_twice{0};
};

// Refuses the allocation number `refused`, counted from 1; 0: none.
class CountingMemory : public std::pmr::memory_resource {
public:
    explicit CountingMemory(int refused = 0) : refused_(refused) {}
    int allocations() const { return allocations_; }
    std::size_t blocks() const { return blocks_; }
    std::size_t bytes() const { return bytes_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (++allocations_ == refused_) throw std::bad_alloc();
        ++blocks_;
        bytes_ += bytes;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
        --blocks_;
        bytes_ -= bytes;
        std::pmr::new_delete_resource()->deallocate(memory, bytes, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

    int refused_;
    std::atomic<int> allocations_{0};
    std::atomic<std::size_t> blocks_{0}, bytes_{0};
};

// Everything that can be popped.
template <class T>
std::vector<T*> pop_all(ObjectPool<T>& pool) {
    std::vector<T*> objects;
    while (T* object = pool.try_pop_raw()) objects.push_back(object);
    return objects;
}
template <class T>
void push_all(ObjectPool<T>& pool, const std::vector<T*>& objects) {
    for (T* object : objects) pool.push(object);
}

// How many different objects can be popped; they are pushed back.
template <class T>
std::size_t count_free(ObjectPool<T>& pool) {
    const auto objects = pop_all(pool);
    push_all(pool, objects);
    return std::set(objects.begin(), objects.end()).size();
}

// A pool without checks, whatever the build says.
template <class T>
ObjectPool<T> make_pool(std::size_t capacity, std::optional<PoolBackEnd> back_end = {}) {
    return ObjectPool<T>::create({.capacity = capacity, .checks = PoolChecks::off, .back_end = back_end}).value();
}

// Why this process has no restartable sequences; "" if it has.
inline const char* no_sequences_because() {
    static const auto pool = ObjectPool<int>::create({.capacity = 1, .checks = PoolChecks::off, .back_end = {}}).value();
    const auto asked =
        ObjectPool<int>::create({.capacity = 1, .checks = PoolChecks::off, .back_end = PoolBackEnd::restartable});
    return asked ? "" : pool.back_end_reason();
}

// The back ends that this process has.
inline std::vector<PoolBackEnd> back_ends() {
    std::vector<PoolBackEnd> all{PoolBackEnd::tagged, PoolBackEnd::single};
    if (*no_sequences_because() == '\0') all.insert(all.begin(), PoolBackEnd::restartable);
    return all;
}

}  // namespace test
}  // namespace dynfunc
