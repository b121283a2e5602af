// SPDX-License-Identifier: MIT
// The contestants of the bench "pool" that are ours: dynfunc, with the back end that it chooses; dynfunc-tagged, which works
// without restartable sequences; dynfunc-single, which does not share out by CPU.
#include <dynfunc/object_pool.hpp>
#include <optional>

#include "pool_burst.hpp"
#include "pool_contestants.hpp"

namespace bench::pool {
namespace {

using dynfunc::PoolBackEnd;

template <std::size_t size>
struct Payload : Object {
    std::array<std::byte, size - sizeof(Object)> rest;
};
template <>
struct Payload<sizeof(Object)> : Object {};

template <std::size_t size>
auto make_pool(std::size_t objects, bool aligned, std::optional<PoolBackEnd> back_end) {
    using T = Payload<size>;
    static_assert(sizeof(T) == size);
    return dynfunc::ObjectPool<T>::create({.capacity = objects,
                                           .alignment = aligned ? cache_line : alignof(T),
                                           .checks = dynfunc::PoolChecks::off,  // the others have none
                                           .back_end = back_end});
}

// `chosen` is a PoolBackEnd, or -1 for the library's own choice.
template <int chosen>
constexpr std::optional<PoolBackEnd> back_end_of() {
    return chosen < 0 ? std::nullopt : std::optional(static_cast<PoolBackEnd>(chosen));
}

template <std::size_t size, int chosen>
class Own {
public:
    static constexpr bool keeps_objects = true;
    using Pool = dynfunc::ObjectPool<Payload<size>>;
    explicit Own(const Load& load) {
        auto made = make_pool<size>(load.objects, load.aligned, back_end_of<chosen>());
        if (!made) throw std::runtime_error("no pool: " + made.error().message());
        pool_.emplace(std::move(*made));
    }
    struct User {
        User(Own& of, std::size_t) : pool(*of.pool_) {}
        Object* pop() { return pool.try_pop_raw(); }
        void push(Object* object) { pool.push(static_cast<Payload<size>*>(object)); }
        Pool& pool;
    };

private:
    std::optional<Pool> pool_;
};

template <int chosen>
Outcome burst_own(const Load& load) {
    switch (load.size) {
        case 40:
            return burst<Own<40, chosen>>(load);
        case 64:
            return burst<Own<64, chosen>>(load);
        case 512:
            return burst<Own<512, chosen>>(load);
        default:
            throw std::runtime_error("no object is of this size");
    }
}

template <int chosen>
Contestant contestant(const char* id) {
    Contestant made{.id = id, .burst = &burst_own<chosen>};
    const auto pool = make_pool<64>(2, true, back_end_of<chosen>());
    if (!pool) {
        made.burst = nullptr;
        made.absent = pool.error().message();
        return made;
    }
    made.form = dynfunc::to_string(pool->back_end());
    if (chosen < 0 && pool->back_end() != PoolBackEnd::restartable) {
        made.form += std::string(": ") + pool->back_end_reason();
    }
    return made;
}

}  // namespace

void add_dynfunc(std::vector<Contestant>& all) {
    all.push_back(contestant<-1>("dynfunc"));
    all.push_back(contestant<static_cast<int>(PoolBackEnd::tagged)>("dynfunc-tagged"));
    all.push_back(contestant<static_cast<int>(PoolBackEnd::single)>("dynfunc-single"));
}

std::vector<Contestant> contestants() {
    std::vector<Contestant> all;
    add_freelists(all);
    add_arrays(all);
    add_queues(all);
    add_allocators(all);
    add_dynfunc(all);
    return all;
}

}  // namespace bench::pool
