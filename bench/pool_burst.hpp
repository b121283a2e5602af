// SPDX-License-Identifier: MIT
// The loops of the bench "pool", made for each contestant, so that its pop and push are inlined into them.
//
//     class Pool {
//         static constexpr bool keeps_objects;    // false: objects are made by pop and freed by push; none can be missing
//         explicit Pool(const Load&);             // full
//         struct User {                           // what one thread needs
//             User(Pool&, std::size_t index);
//             Object* pop();                      // null: a miss
//             void push(Object*);
//         };
//     };
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "pool_threads.hpp"

namespace bench::pool {

// The compiler does not know what a user does between a pop and a push: what it knows of a pool's memory it must not carry
// from the one to the other in a register.
inline void work_elsewhere() { asm volatile("" ::: "memory"); }

inline void use(Object* object, std::uint64_t value) {
    object->used = value;
    work_elsewhere();
}

inline constexpr std::size_t pairs_between_questions = 64;  // to Worker::stopped()

template <class User>
void pop_and_push_at_once(User& user, Worker& worker) {
    std::uint64_t hits = 0, tries = 0;
    while (!worker.stopped())
        for (std::size_t i = 0; i < pairs_between_questions; ++i) {
            Object* const object = user.pop();
            ++tries;
            if (object == nullptr) continue;
            use(object, tries);
            user.push(object);
            work_elsewhere();
            ++hits;
        }
    worker.count(hits, tries - hits);
}

template <class User>
void pop_and_push_many(User& user, Worker& worker, std::size_t bulk) {
    std::uint64_t hits = 0, tries = 0;
    std::array<Object*, most_bulk> held;
    const std::size_t times = (pairs_between_questions + bulk - 1) / bulk;
    while (!worker.stopped())
        for (std::size_t i = 0; i < times; ++i) {
            for (std::size_t k = 0; k < bulk; ++k) {
                held[k] = user.pop();
                if (held[k] != nullptr) use(held[k], tries);
            }
            tries += bulk;
            for (std::size_t k = 0; k < bulk; ++k)
                if (held[k] != nullptr) {
                    user.push(held[k]);
                    work_elsewhere();
                    ++hits;
                }
        }
    worker.count(hits, tries - hits);
}

// Pointers on their way from a thread to its partner.
struct alignas(2 * cache_line) HandOver {
    static constexpr std::size_t size = 256;
    std::array<std::atomic<Object*>, size> slots{};
};

template <class User>
void pop_and_hand_over(User& user, Worker& worker, HandOver& ring, Patience patience) {
    std::uint64_t misses = 0;
    for (std::size_t at = 0; !worker.stopped();) {
        std::atomic<Object*>& slot = ring.slots[at];
        if (slot.load(std::memory_order_relaxed) != nullptr) {
            patience.wait();
            continue;
        }
        Object* const object = user.pop();
        if (object == nullptr) {
            ++misses;
            patience.wait();
            continue;
        }
        use(object, at);
        slot.store(object, std::memory_order_release);
        at = (at + 1) % HandOver::size;
    }
    worker.count(0, misses);
}

template <class User>
void take_and_push(User& user, Worker& worker, HandOver& ring, Patience patience) {
    std::uint64_t hits = 0;
    for (std::size_t at = 0; !worker.stopped();) {
        std::atomic<Object*>& slot = ring.slots[at];
        Object* const object = slot.load(std::memory_order_acquire);
        if (object == nullptr) {
            patience.wait();
            continue;
        }
        slot.store(nullptr, std::memory_order_release);
        user.push(object);
        at = (at + 1) % HandOver::size;
        ++hits;
    }
    worker.count(hits, 0);
}

template <class User>
bool interrupt(void* context) {
    User& user = *static_cast<User*>(context);
    Object* const object = user.pop();
    if (object == nullptr) return false;
    use(object, 0);
    user.push(object);
    return true;
}

// Pops until nothing is left: a contestant that gives an object twice, or none where some must be, is no contestant.
template <class Pool>
void check_all_are_there(Pool& pool, const Load& load) {
    constexpr std::uint64_t seen = ~std::uint64_t{0};
    typename Pool::User user(pool, 0);
    std::vector<Object*> found;
    bool twice = false;
    while (Object* object = user.pop()) {
        twice = twice || object->used == seen;
        if (twice) break;
        object->used = seen;
        found.push_back(object);
    }
    if (twice || found.size() != load.objects)
        throw std::runtime_error("pool, mode " + std::string(to_string(load.mode)) + ": of " + std::to_string(load.objects) +
                                 " objects " + std::to_string(found.size()) + " were there" +
                                 (twice ? ", and one of them twice" : ""));
    for (Object* object : found) user.push(object);
}

template <class Pool>
Outcome burst(const Load& load) {
    using User = typename Pool::User;
    Pool pool(load);
    std::vector<HandOver> rings(load.mode == Mode::handed_over ? load.threads / 2 : 0);
    const Outcome outcome = run_threads(load.burst(), [&](Worker& worker) {
        User user(pool, worker.index());
        worker.start();
        switch (load.mode) {
            case Mode::at_once:
                pop_and_push_at_once(user, worker);
                break;
            case Mode::interrupt: {
                Interrupts interrupts(&interrupt<User>, &user);
                pop_and_push_at_once(user, worker);
                interrupts.stop(worker);
                break;
            }
            case Mode::bulk:
            case Mode::misses:
                pop_and_push_many(user, worker, load.bulk);
                break;
            case Mode::handed_over:
                if (worker.index() % 2 == 0)
                    pop_and_hand_over(user, worker, rings[worker.index() / 2], Patience(load));
                else
                    take_and_push(user, worker, rings[worker.index() / 2], Patience(load));
                break;
        }
        worker.finish();
    });
    typename Pool::User user(pool, 0);
    for (HandOver& ring : rings)
        for (std::atomic<Object*>& slot : ring.slots)
            if (Object* const object = slot.load(std::memory_order_relaxed)) user.push(object);
    if constexpr (Pool::keeps_objects) check_all_are_there(pool, load);
    return outcome;
}

}  // namespace bench::pool
