// SPDX-License-Identifier: MIT
// Contestants that keep pointers to free objects in arrays: array and ring.
#include <bit>

#include "pool_burst.hpp"
#include "pool_contestants.hpp"
#include "pool_cpu.hpp"

namespace bench::pool {
namespace {

// Slots, each empty or with an object. A pop looks for an object from where its CPU's share of the slots begins, a push for an
// empty slot, and each takes what it found with one compare-and-swap. There is no ABA problem: what is compared is all there is
// to a slot. Two locked instructions a pair; but with several objects out at once a CPU looks through the slots that it has
// emptied, from the same beginning each time.
class BoundedArray {
public:
    static constexpr bool keeps_objects = true;
    explicit BoundedArray(const Load& load)
        : objects_(load), slots_(std::bit_ceil(objects_.count())), mask_(slots_.size() - 1), share_(slots_.size() / cpus()) {
        for (std::size_t i = 0; i < objects_.count(); ++i) slots_[i].store(objects_[i], std::memory_order_relaxed);
    }
    struct User {
        User(BoundedArray& of, std::size_t) : pool(of) {}
        Object* pop() {
            const std::size_t begin = pool.begin();
            for (std::size_t i = 0; i <= pool.mask_; ++i) {
                std::atomic<Object*>& slot = pool.slots_[(begin + i) & pool.mask_];
                Object* object = slot.load(std::memory_order_relaxed);
                // (A) pairs with (B): what the last user wrote is visible to the next.
                if (object != nullptr &&
                    slot.compare_exchange_strong(object, nullptr, std::memory_order_acquire, std::memory_order_relaxed))
                    return object;
            }
            return nullptr;
        }
        // There are no fewer slots than objects, so one is empty, though not always the one this looks at.
        void push(Object* object) {
            for (std::size_t i = pool.begin();; ++i) {
                std::atomic<Object*>& slot = pool.slots_[i & pool.mask_];
                Object* empty = nullptr;
                if (slot.load(std::memory_order_relaxed) == nullptr &&
                    slot.compare_exchange_strong(empty, object, std::memory_order_release, std::memory_order_relaxed))  // (B)
                    return;
            }
        }
        BoundedArray& pool;
    };

private:
    std::size_t begin() const { return current_cpu() * share_; }

    Objects objects_;
    std::vector<std::atomic<Object*>> slots_;
    std::size_t mask_, share_;
};

// A ring for each CPU with room for all objects, so that no push is refused. A push takes a place at the tail, writes the
// object, and then the place's age, which is the count of the tail that it took: a pop believes a place only if its age is the
// head's count, so a push that was interrupted half-way shows nothing wrong. It hides what lies behind it, though, until it
// goes on. An empty ring borrows from the next that is not.
class Ring {
public:
    Ring() = default;
    void make_room(std::size_t size) {
        objects_ = std::make_unique<std::atomic<Object*>[]>(size);
        ages_ = std::make_unique<std::atomic<std::uint32_t>[]>(size);
        mask_ = static_cast<std::uint32_t>(size - 1);
        for (std::uint32_t i = 0; i < size; ++i)
            ages_[i].store(i - 1, std::memory_order_relaxed);  // of no head that comes here
    }

    Object* pop() {
        std::uint32_t head = head_.load(std::memory_order_acquire);
        while (head != tail_.load(std::memory_order_relaxed)) {
            // (A) pairs with (B): the age came after the object.
            if (ages_[head & mask_].load(std::memory_order_acquire) == head) {
                Object* const object = objects_[head & mask_].load(std::memory_order_relaxed);
                if (head_.compare_exchange_strong(head, head + 1, std::memory_order_acq_rel, std::memory_order_acquire))
                    return object;
                continue;  // with the head as it is now
            }
            const std::uint32_t before = head;
            head = head_.load(std::memory_order_acquire);
            if (head == before) return nullptr;  // a push that is half done is in the way
        }
        return nullptr;
    }

    void push(Object* object) {
        const std::uint32_t place = tail_.fetch_add(1, std::memory_order_relaxed);
        objects_[place & mask_].store(object, std::memory_order_relaxed);
        ages_[place & mask_].store(place, std::memory_order_release);  // (B)
    }

private:
    alignas(2 * cache_line) std::atomic<std::uint32_t> head_ = 0;
    std::atomic<std::uint32_t> tail_ = 0;
    std::uint32_t mask_ = 0;
    std::unique_ptr<std::atomic<Object*>[]> objects_;
    std::unique_ptr<std::atomic<std::uint32_t>[]> ages_;
};

class RingPerCpu {
public:
    static constexpr bool keeps_objects = true;
    explicit RingPerCpu(const Load& load) : objects_(load), rings_(cpus()) {
        for (Ring& ring : rings_) ring.make_room(std::bit_ceil(objects_.count()));
        for (std::size_t i = 0; i < objects_.count(); ++i) rings_[i * rings_.size() / objects_.count()].push(objects_[i]);
    }
    struct User {
        User(RingPerCpu& pool, std::size_t) : rings(pool.rings_) {}
        Object* pop() { return pop_nearest(rings); }
        void push(Object* object) { rings[current_cpu()].push(object); }
        std::vector<Ring>& rings;
    };

private:
    Objects objects_;
    std::vector<Ring> rings_;
};

}  // namespace

void add_arrays(std::vector<Contestant>& all) {
    all.push_back({.id = "array", .burst = &burst<BoundedArray>});
    all.push_back({.id = "ring", .burst = &burst<RingPerCpu>});
}

}  // namespace bench::pool
