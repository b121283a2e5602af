// SPDX-License-Identifier: MIT
// What one burst of the bench "pool" does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "threads.hpp"

namespace bench::pool {

// What is popped and pushed: the first 40 bytes of every object. A contestant that links free objects to each other keeps its
// links in `owned`, also while somebody has the object. The user writes `used`, once for each pop.
struct Object {
    std::array<std::byte, 32> owned;
    std::uint64_t used;
};
static_assert(sizeof(Object) == 40);

enum class Mode : std::uint8_t {
    at_once,      // "A": pop one, push it
    bulk,         // "B": pop several, push them
    misses,       // "C": the same with far fewer objects than are asked for
    handed_over,  // "X": one thread pops, its partner pushes
    interrupt,    // "interrupt": A, while a timer's handler does the same in each thread
};
const char* to_string(Mode) noexcept;

inline constexpr std::size_t most_bulk = 100;

struct Load {
    Mode mode;
    std::size_t bulk;  // of one thread
    std::size_t threads;
    std::size_t size;  // of an object, bytes: 40, 64 or 512
    bool aligned;      // objects begin on a cache line; else they are packed
    std::size_t objects;
    double seconds;

    Burst burst() const { return {threads, seconds}; }
    std::size_t stride() const { return aligned ? (size + cache_line - 1) / cache_line * cache_line : size; }
};

// The objects of a contestant that is not an allocator, in one block.
class Objects {
public:
    explicit Objects(const Load& load)
        : stride_(load.stride()), count_(load.objects), bytes_(new (std::align_val_t(page)) std::byte[stride_ * count_]) {
        std::memset(bytes_.get(), 0, stride_ * count_);  // no page fault in the burst
    }
    std::size_t count() const { return count_; }
    Object* operator[](std::size_t i) const { return reinterpret_cast<Object*>(bytes_.get() + i * stride_); }

private:
    static constexpr std::size_t page = 4096;
    struct Free {
        void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t(page)); }
    };
    std::size_t stride_, count_;
    std::unique_ptr<std::byte[], Free> bytes_;
};

// A contestant's links in an object; begin_links() makes them.
template <class Links>
void begin_links(Object* object) {
    static_assert(sizeof(Links) <= sizeof object->owned);
    new (object->owned.data()) Links{};
}
template <class Links>
Links& links_of(Object* object) {
    return *std::launder(reinterpret_cast<Links*>(object->owned.data()));
}

}  // namespace bench::pool
