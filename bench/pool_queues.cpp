// SPDX-License-Identifier: MIT
// Contestants that are packages: moodycamel, boost-stack, boost-queue, tbb-bounded, urcu-lfstack. Those that were not there
// when this was built are left out by name.
#if BENCH_HAS_MOODYCAMEL
#include <concurrentqueue/concurrentqueue.h>
#endif
#if BENCH_HAS_TBB
#include <tbb/concurrent_queue.h>
#endif
#if BENCH_HAS_URCU
#include <urcu/lfstack.h>
#endif

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/stack.hpp>

#include "pool_burst.hpp"
#include "pool_contestants.hpp"

namespace bench::pool {
namespace {

[[maybe_unused]] std::string was_missing(const char* package) {
    return std::string(package) + " was not there when this was built";
}

// boost::lockfree: nodes of their own, from a list of a fixed size.
template <class Container>
class Boost {
public:
    static constexpr bool keeps_objects = true;
    explicit Boost(const Load& load) : objects_(load), container_(objects_.count()) {
        for (std::size_t i = 0; i < objects_.count(); ++i) container_.push(objects_[i]);
    }
    struct User {
        User(Boost& pool, std::size_t) : container(pool.container_) {}
        Object* pop() {
            Object* object = nullptr;
            return container.pop(object) ? object : nullptr;
        }
        // A node may be on its way back to the list of nodes while its object is out already.
        void push(Object* object) {
            while (!container.push(object)) continue;
        }
        Container& container;
    };

private:
    Objects objects_;
    Container container_;
};
using BoostStack = Boost<boost::lockfree::stack<Object*, boost::lockfree::fixed_sized<true>>>;
using BoostQueue = Boost<boost::lockfree::queue<Object*, boost::lockfree::fixed_sized<true>>>;

#if BENCH_HAS_MOODYCAMEL
// With a token for each thread and direction, the faster way to use it.
class Moodycamel {
public:
    static constexpr bool keeps_objects = true;
    using Queue = moodycamel::ConcurrentQueue<Object*>;
    explicit Moodycamel(const Load& load) : objects_(load), queue_(objects_.count()) {
        for (std::size_t i = 0; i < objects_.count(); ++i) queue_.enqueue(objects_[i]);
    }
    struct User {
        User(Moodycamel& pool, std::size_t) : queue(pool.queue_), producer(queue), consumer(queue) {}
        Object* pop() {
            Object* object = nullptr;
            return queue.try_dequeue(consumer, object) ? object : nullptr;
        }
        void push(Object* object) { queue.enqueue(producer, object); }
        Queue& queue;
        moodycamel::ProducerToken producer;
        moodycamel::ConsumerToken consumer;
    };

private:
    Objects objects_;
    Queue queue_;
};
#endif

#if BENCH_HAS_TBB
class TbbBounded {
public:
    static constexpr bool keeps_objects = true;
    using Queue = tbb::concurrent_bounded_queue<Object*>;
    explicit TbbBounded(const Load& load) : objects_(load) {
        queue_.set_capacity(static_cast<Queue::size_type>(objects_.count()));
        for (std::size_t i = 0; i < objects_.count(); ++i) queue_.push(objects_[i]);
    }
    struct User {
        User(TbbBounded& pool, std::size_t) : queue(pool.queue_) {}
        Object* pop() {
            Object* object = nullptr;
            return queue.try_pop(object) ? object : nullptr;
        }
        void push(Object* object) { queue.push(object); }
        Queue& queue;
    };

private:
    Objects objects_;
    Queue queue_;
};
#endif

#if BENCH_HAS_URCU
// A lock-free push; pops exclude each other with the stack's mutex. Both are calls of the library, which its C++ users have not
// inline.
class UrcuStack {
public:
    static constexpr bool keeps_objects = true;
    explicit UrcuStack(const Load& load) : objects_(load) {
        cds_lfs_init(&stack_);
        for (std::size_t i = objects_.count(); i-- > 0;) {
            begin_links<cds_lfs_node>(objects_[i]);
            User(*this, 0).push(objects_[i]);
        }
    }
    ~UrcuStack() { cds_lfs_destroy(&stack_); }
    struct User {
        User(UrcuStack& pool, std::size_t) : stack(pool.stack_) {}
        Object* pop() { return reinterpret_cast<Object*>(cds_lfs_pop_blocking(&stack)); }  // the node is the object's beginning
        void push(Object* object) {
            cds_lfs_node* const node = &links_of<cds_lfs_node>(object);
            cds_lfs_node_init(node);
            cds_lfs_stack_ptr_t in;  // a union that C converts to by itself
            in.s = &stack;
            cds_lfs_push(in, node);
        }
        cds_lfs_stack& stack;
    };

private:
    Objects objects_;
    alignas(2 * cache_line) cds_lfs_stack stack_{};
};
#endif

}  // namespace

void add_queues(std::vector<Contestant>& all) {
    Contestant moodycamel{.id = "moodycamel", .not_in_handlers = "a push may allocate, and a token serves one call at a time"};
#if BENCH_HAS_MOODYCAMEL
    moodycamel.burst = &burst<Moodycamel>;
#else
    moodycamel.absent = was_missing("libconcurrentqueue-dev");
#endif
    all.push_back(moodycamel);

    all.push_back({.id = "boost-stack", .burst = &burst<BoostStack>});
    all.push_back({.id = "boost-queue", .burst = &burst<BoostQueue>});

    Contestant tbb{.id = "tbb-bounded",
                   .sleeps = true,
                   .not_in_handlers = "a handler may wait for ever for the push or pop that it interrupted"};
#if BENCH_HAS_TBB
    tbb.burst = &burst<TbbBounded>;
#else
    tbb.absent = was_missing("libtbb-dev");
#endif
    all.push_back(tbb);

    Contestant urcu{.id = "urcu-lfstack",
                    .sleeps = true,
                    .not_in_handlers = "a handler would wait for ever for the lock of the pop that it interrupted"};
#if BENCH_HAS_URCU
    urcu.burst = &burst<UrcuStack>;
#else
    urcu.absent = was_missing("liburcu-dev");
#endif
    all.push_back(urcu);
}

}  // namespace bench::pool
