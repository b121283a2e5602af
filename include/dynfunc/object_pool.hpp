// SPDX-License-Identifier: MIT
// A pool of objects that are made once and handed out again and again: by any thread, in signal handlers too, without a lock
// and without malloc.
//
//     auto frames = dynfunc::ObjectPool<Frame>::create({.capacity = 256});
//     if (auto frame = frames->try_pop()) frame->n = 7;        // goes back at the end of the scope
//     else ++not_served;                                        // a miss: counted, never waited for
//
// How: each CPU has a stack of free objects, which only threads that run on it touch, in a restartable sequence of a dozen
// instructions without a lock prefix. What does not fit is passed on in chains to lists that all CPUs reach, and a CPU that has
// nothing takes from there, nearest first. Only when those are empty too does it ask the kernel to interrupt another CPU's
// sequences (membarrier) and take that CPU's objects; both then work on the lists for a while, so that scarce objects go round
// without system calls.
//
// Limits: order and fairness are not promised. A miss means that no place held an object when it was looked at; objects that
// another thread was moving at that moment are not seen. A stopped CPU's objects are reached by all others, objects in the
// hands of a thread are not. After: the kernel's objpool for what it is for, P. Turner and M. Desnoyers for the sequences
// (rseq).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory_resource>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <dynfunc/detail/export.hpp>
#include <dynfunc/detail/machine.hpp>
#include <dynfunc/result.hpp>

#include DYNFUNC_DETAIL_OF_MACHINE(restartable)

namespace dynfunc {

// How free objects are kept.
enum class PoolBackEnd : std::uint8_t {
    restartable,  // stacks per CPU in restartable sequences (x86-64, arm64; Linux 5.10, glibc 2.35), lists behind them
    tagged,       // lists per CPU, each operation one compare-and-swap
    single,       // one such list
};
DYNFUNC_EXPORT const char* to_string(PoolBackEnd) noexcept;

// Whether push() notices an object that is not the pool's, or that is not out.
enum class PoolChecks : std::uint8_t {
    automatic,  // on where the program is compiled without optimisation and without NDEBUG, or runs with DYNFUNC_POOL_CHECKS=1
    off,        // then such a push breaks the pool
    on,         // then it ends the process with a message; the back end is `tagged` at best
};

template <class T>
struct PoolOptions {
    std::size_t capacity = 0;                     // how many objects, 1 to pool_capacity_most
    std::pmr::memory_resource* memory = nullptr;  // outlives the pool and every object; null: mapped memory, on each NUMA node
    std::size_t alignment = alignof(T);           // of each object: 64 gives every object cache lines of its own
    bool huge_pages = false;                      // of the mapped memory, where the system has them
    std::function<void(T&)> on_create = {};       // called once for each object, in create()
    PoolChecks checks = PoolChecks::automatic;
    std::optional<PoolBackEnd> back_end = {};  // none: the best there is, or what DYNFUNC_POOL=restartable|tagged|single says
};

inline constexpr std::size_t pool_capacity_most = (std::size_t{1} << 24) - 2;

// Since the pool was made. Exact while nobody pops or pushes.
struct PoolCounters {
    std::uint64_t hits;    // pops that gave an object
    std::uint64_t misses;  // pops that did not
    std::uint64_t steals;  // hits whose object came from another CPU's place
};

// Bytes that a pool takes beside its objects on a machine of so many CPUs.
DYNFUNC_EXPORT std::size_t pool_overhead(std::size_t capacity, std::size_t cpus) noexcept;

namespace detail {

struct PoolPlan {
    std::size_t capacity, object_bytes, alignment;
    std::optional<PoolBackEnd> back_end;
    bool huge_pages;
    PoolChecks checks;
    // Null `allocate`: mapped memory.
    void* memory;
    void* (*allocate)(void* memory, std::size_t bytes, std::size_t alignment) noexcept;
    void (*deallocate)(void* memory, void* at, std::size_t bytes, std::size_t alignment) noexcept;
    // Null: nothing is to be done.
    const void* context;
    void (*construct)(const void* context, void* object);
    void (*destroy)(void* object) noexcept;
};

// Throws: what `construct` throws; then every object that was made is destroyed and the memory given back.
DYNFUNC_EXPORT Result<PoolCore*> create_pool(const PoolPlan&);
DYNFUNC_EXPORT std::size_t close_pool(PoolCore&) noexcept;
DYNFUNC_EXPORT void leave_pool(PoolCore&) noexcept;
DYNFUNC_EXPORT PoolCounters pool_counters(const PoolCore&) noexcept;
DYNFUNC_EXPORT std::size_t pool_capacity(const PoolCore&) noexcept;
DYNFUNC_EXPORT PoolBackEnd pool_back_end(const PoolCore&) noexcept;
DYNFUNC_EXPORT const char* pool_back_end_reason(const PoolCore&) noexcept;

// What one thread wrote into an object before it pushed it is seen by the thread that pops it. The thread sanitizer does not
// know that of a sequence.
#ifdef DYNFUNC_DETAIL_THREAD_SANITIZER
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
inline void note_popped(void* object) noexcept { __tsan_acquire(object); }
inline void note_pushed(void* object) noexcept { __tsan_release(object); }
#else
inline void note_popped(void*) noexcept {}
inline void note_pushed(void*) noexcept {}
#endif

[[gnu::always_inline]] inline void* pool_pop(PoolCore& core) noexcept {
    void* object;
    PoolStack* stack = nullptr;
    const std::ptrdiff_t area = __atomic_load_n(&core.area, __ATOMIC_RELAXED);
    if (area == 0 || !Restartable::pop(core, area, object, stack)) [[unlikely]] {
        object = core.ways->pop(core, stack);
        if (object == nullptr) return nullptr;
    }
    note_popped(object);
    return object;
}

[[gnu::always_inline]] inline void pool_push(PoolCore& core, void* object) noexcept {
    note_pushed(object);
    const std::ptrdiff_t area = __atomic_load_n(&core.area, __ATOMIC_RELAXED);
    if (area == 0 || !Restartable::push(core, area, object)) [[unlikely]]
        core.ways->push(core, object);
}

#if defined(__OPTIMIZE__) || defined(NDEBUG)
inline constexpr bool is_debug_build = false;
#else
inline constexpr bool is_debug_build = true;
#endif

}  // namespace detail

// An object that is out; goes back when this ends, also after the pool was closed. Move-only.
// Threads: as T; the thread that gives it back need not be the one that took it.
template <class T>
class [[nodiscard]] Pooled {
public:
    Pooled() noexcept = default;
    Pooled(Pooled&& other) noexcept : core_(other.core_), object_(std::exchange(other.object_, nullptr)) {}
    Pooled& operator=(Pooled&& other) noexcept {
        Pooled old(std::move(*this));
        core_ = other.core_;
        object_ = std::exchange(other.object_, nullptr);
        return *this;
    }
    ~Pooled() {
        if (object_ != nullptr) detail::pool_push(*core_, object_);
    }

    explicit operator bool() const noexcept { return object_ != nullptr; }
    T* get() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }
    T* operator->() const noexcept { return object_; }
    // The object stays out; the caller pushes it back.
    [[nodiscard]] T* release() noexcept { return std::exchange(object_, nullptr); }

private:
    template <class>
    friend class ObjectPool;
    Pooled(detail::PoolCore* core, T* object) noexcept : core_(core), object_(object) {}

    detail::PoolCore* core_ = nullptr;
    T* object_ = nullptr;
};

// Move-only. Its end closes the pool.
template <class T>
class ObjectPool {
public:
    // Makes the pool and its objects: each is value-initialised (one that is trivial is left as the memory is: zero, if that is
    // the mapped one), then given to on_create. They are destroyed when the pool is freed, not between uses.
    // Threads: any.  Blocks: in the allocator and the kernel. Not in signal handlers.
    // Errors:  capacity_out_of_range, bad_alignment, out_of_memory. Then nothing is left behind.
    // Throws:  what T's constructor or on_create throws; then nothing is left behind either.
    [[nodiscard]] static Result<ObjectPool> create(const PoolOptions<T>& options);

    ObjectPool(ObjectPool&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    ObjectPool& operator=(ObjectPool&& other) noexcept {
        ObjectPool old(std::move(*this));
        core_ = std::exchange(other.core_, nullptr);
        return *this;
    }
    // close(), and nothing of this handle may be used any more; Pooled may.
    ~ObjectPool() {
        if (core_ != nullptr) detail::leave_pool(*core_);
    }

    // An object, or nothing: a miss. The raw form is given back with push().
    // Threads:  any; signal handlers at any instruction, also of these functions. errno is kept.
    // Blocks:   never. Usually a dozen instructions; a system call where only another CPU's stack holds objects.
    // Ordering: what was written to the object before it was pushed is visible.
    // fork():   the child has the free objects that the parent had; those in the hands of the parent's other threads, also
    //           in the middle of a move, are lost to it.
    [[nodiscard]] Pooled<T> try_pop() noexcept { return Pooled<T>(core_, try_pop_raw()); }
    [[nodiscard, gnu::always_inline]] T* try_pop_raw() noexcept { return static_cast<T*>(detail::pool_pop(*core_)); }

    // Gives back what try_pop_raw() or Pooled::release() gave, once.
    // Threads, blocking, ordering: as try_pop(). Any thread, also another than the one that took it.
    // Errors:  an object that is not this pool's, or not out: PoolChecks.
    [[gnu::always_inline]] void push(T* object) noexcept { detail::pool_push(*core_, object); }

    // From now on every pop misses. Objects that are out may be used and given back as before; the last one back frees the
    // pool, if the handle has gone too: in whatever thread and handler that is, which then runs T's destructors and the memory
    // resource. Returns how many are out. Closing twice does nothing more.
    // Threads:  any, but one at a time.  Blocks: yes, shortly. Not in signal handlers.
    std::size_t close() noexcept { return detail::close_pool(*core_); }

    PoolCounters counters() const noexcept { return detail::pool_counters(*core_); }
    std::size_t capacity() const noexcept { return detail::pool_capacity(*core_); }
    PoolBackEnd back_end() const noexcept { return detail::pool_back_end(*core_); }
    // Why not a better one; "" for the best.
    const char* back_end_reason() const noexcept { return detail::pool_back_end_reason(*core_); }

private:
    explicit ObjectPool(detail::PoolCore* core) noexcept : core_(core) {}

    static void construct(const void* context, void* at) {
        T* object = static_cast<T*>(at);
        if constexpr (!std::is_trivially_default_constructible_v<T>) new (at) T();
        const auto& on_create = *static_cast<const std::function<void(T&)>*>(context);
        if (!on_create) return;
        try {
            on_create(*object);
        } catch (...) {
            object->~T();
            throw;
        }
    }

    detail::PoolCore* core_;
};

template <class T>
Result<ObjectPool<T>> ObjectPool<T>::create(const PoolOptions<T>& options) {
    detail::PoolPlan plan{.capacity = options.capacity,
                          .object_bytes = sizeof(T),
                          .alignment = options.alignment,
                          .back_end = options.back_end,
                          .huge_pages = options.huge_pages,
                          .checks = options.checks,
                          .memory = options.memory,
                          .allocate = nullptr,
                          .deallocate = nullptr,
                          .context = &options.on_create,
                          .construct = nullptr,
                          .destroy = nullptr};
    if (options.checks == PoolChecks::automatic && detail::is_debug_build) plan.checks = PoolChecks::on;
    if (options.alignment % alignof(T) != 0) plan.alignment = 0;  // refused below
    if (options.memory != nullptr) {
        plan.allocate = [](void* memory, std::size_t bytes, std::size_t alignment) noexcept -> void* {
            try {
                return static_cast<std::pmr::memory_resource*>(memory)->allocate(bytes, alignment);
            } catch (...) {
                return nullptr;
            }
        };
        plan.deallocate = [](void* memory, void* at, std::size_t bytes, std::size_t alignment) noexcept {
            static_cast<std::pmr::memory_resource*>(memory)->deallocate(at, bytes, alignment);
        };
    }
    if (!std::is_trivially_default_constructible_v<T> || options.on_create) plan.construct = &construct;
    if constexpr (!std::is_trivially_destructible_v<T>)
        plan.destroy = [](void* object) noexcept { static_cast<T*>(object)->~T(); };
    auto core = detail::create_pool(plan);
    if (!core) return std::unexpected(core.error());
    return ObjectPool(*core);
}

}  // namespace dynfunc
