// SPDX-License-Identifier: MIT
// Contestants that keep free objects in linked lists: freelist (the baseline), percpu-freelist, mutex, thread-local.
#include <mutex>

#include "pool_burst.hpp"
#include "pool_contestants.hpp"
#include "pool_cpu.hpp"

namespace bench::pool {
namespace {

// A lock-free LIFO list after the published solution of its ABA problem by reference counts (C. Desrochers, "Solving the ABA
// problem for lock-free free lists"). A thread that takes an object off first takes a reference to it, and an object that
// somebody has a reference to is never put on the list again: so the link it read is still the right one if the head still is.
// Who gives the last reference back puts the object on the list. A pair is five locked instructions. Objects are never freed.
class alignas(2 * cache_line) Freelist {
public:
    struct Links {
        std::atomic<Object*> next = nullptr;
        std::atomic<std::uint32_t> references = 0;  // one is the list's; `returned` is added by push
    };

    Object* pop() {
        Object* top = head_.load(std::memory_order_acquire);
        while (top != nullptr) {
            Object* const object = top;
            Links& links = links_of<Links>(object);
            std::uint32_t references = links.references.load(std::memory_order_relaxed);
            // (A) pairs with (B): whoever holds a reference sees the link that the list's reference was given with.
            if ((references & ~returned) == 0 ||
                !links.references.compare_exchange_strong(references, references + 1, std::memory_order_acquire,
                                                          std::memory_order_relaxed)) {
                top = head_.load(std::memory_order_acquire);
                continue;
            }
            if (head_.compare_exchange_strong(top, links.next.load(std::memory_order_relaxed), std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
                links.references.fetch_sub(2, std::memory_order_release);  // this thread's and the list's
                return object;
            }
            // (C) pairs with itself in other threads: nobody links the object before all have read its link.
            if (links.references.fetch_sub(1, std::memory_order_acq_rel) == returned + 1) link(object);
        }
        return nullptr;
    }

    void push(Object* object) {
        if (links_of<Links>(object).references.fetch_add(returned, std::memory_order_acq_rel) == 0) link(object);
    }

private:
    static constexpr std::uint32_t returned = 0x8000'0000;  // it is to go onto the list once nobody has a reference

    // Only for the one thread that found `returned` and no reference.
    void link(Object* object) {
        Links& links = links_of<Links>(object);
        Object* top = head_.load(std::memory_order_relaxed);
        for (;;) {
            links.next.store(top, std::memory_order_relaxed);
            links.references.store(1, std::memory_order_release);  // (B) pairs with (A)
            if (head_.compare_exchange_strong(top, object, std::memory_order_release, std::memory_order_relaxed)) return;
            // A thread with an old head may have taken a reference meanwhile: then linking is its business.
            if (links.references.fetch_add(returned - 1, std::memory_order_acq_rel) != 1) return;
        }
    }

    std::atomic<Object*> head_ = nullptr;
};

class OneFreelist {
public:
    static constexpr bool keeps_objects = true;
    explicit OneFreelist(const Load& load) : objects_(load) {
        for (std::size_t i = objects_.count(); i-- > 0;) {
            begin_links<Freelist::Links>(objects_[i]);
            list_.push(objects_[i]);
        }
    }
    struct User {
        User(OneFreelist& pool, std::size_t) : list(pool.list_) {}
        Object* pop() { return list.pop(); }
        void push(Object* object) { list.push(object); }
        Freelist& list;
    };

private:
    Objects objects_;
    Freelist list_;
};

// A freelist for each CPU. An empty one borrows from the next that is not.
class FreelistPerCpu {
public:
    static constexpr bool keeps_objects = true;
    explicit FreelistPerCpu(const Load& load) : objects_(load), lists_(cpus()) {
        for (std::size_t i = objects_.count(); i-- > 0;) {
            begin_links<Freelist::Links>(objects_[i]);
            lists_[i * lists_.size() / objects_.count()].push(objects_[i]);
        }
    }
    struct User {
        User(FreelistPerCpu& pool, std::size_t) : lists(pool.lists_) {}
        Object* pop() { return pop_nearest(lists); }
        void push(Object* object) { lists[current_cpu()].push(object); }
        std::vector<Freelist>& lists;
    };

private:
    Objects objects_;
    std::vector<Freelist> lists_;
};

struct PlainLink {
    Object* next = nullptr;
};

class MutexList {
public:
    static constexpr bool keeps_objects = true;
    explicit MutexList(const Load& load) : objects_(load) {
        for (std::size_t i = objects_.count(); i-- > 0;) {
            begin_links<PlainLink>(objects_[i]);
            push(objects_[i]);
        }
    }
    struct User {
        User(MutexList& of, std::size_t) : pool(of) {}
        Object* pop() { return pool.pop(); }
        void push(Object* object) { pool.push(object); }
        MutexList& pool;
    };

private:
    Object* pop() {
        const std::lock_guard lock(mutex_);
        Object* const object = top_;
        if (object != nullptr) top_ = links_of<PlainLink>(object).next;
        return object;
    }
    void push(Object* object) {
        const std::lock_guard lock(mutex_);
        links_of<PlainLink>(object).next = top_;
        top_ = object;
    }

    Objects objects_;
    alignas(2 * cache_line) std::mutex mutex_;
    Object* top_ = nullptr;
};

// What a pool costs that need not share: each thread has its part of the objects for itself.
constinit thread_local Object* own_top = nullptr;

class ThreadLocalList {
public:
    static constexpr bool keeps_objects = false;  // they are where their threads left them
    explicit ThreadLocalList(const Load& load) : objects_(load), threads_(load.threads) {
        for (std::size_t i = 0; i < objects_.count(); ++i) begin_links<PlainLink>(objects_[i]);
    }
    struct User {
        User(ThreadLocalList& pool, std::size_t index) {
            own_top = nullptr;
            const std::size_t count = pool.objects_.count();
            for (std::size_t i = (index + 1) * count / pool.threads_; i-- > index * count / pool.threads_;)
                push(pool.objects_[i]);
        }
        Object* pop() {
            Object* const object = own_top;
            if (object != nullptr) own_top = links_of<PlainLink>(object).next;
            return object;
        }
        void push(Object* object) {
            links_of<PlainLink>(object).next = own_top;
            own_top = object;
        }
    };

private:
    Objects objects_;
    std::size_t threads_;
};

}  // namespace

void add_freelists(std::vector<Contestant>& all) {
    all.push_back({.id = "freelist", .burst = &burst<OneFreelist>});
    all.push_back({.id = "percpu-freelist", .burst = &burst<FreelistPerCpu>});
    all.push_back({.id = "mutex",
                   .burst = &burst<MutexList>,
                   .sleeps = true,
                   .not_in_handlers = "a handler would wait for ever for a lock that the thread it interrupted holds"});
    all.push_back({.id = "thread-local",
                   .burst = &burst<ThreadLocalList>,
                   .moves_objects = false,
                   .not_in_handlers = "a handler between the two steps of a pop would take the same object"});
}

}  // namespace bench::pool
