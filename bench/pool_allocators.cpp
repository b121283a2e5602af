// SPDX-License-Identifier: MIT
// Contestants that are allocators: malloc and mimalloc. They do not hold objects ready, they never miss, and they align to 16
// bytes.
#include <dlfcn.h>

#include <cstdlib>

#include "pool_burst.hpp"
#include "pool_contestants.hpp"

namespace bench::pool {
namespace {

struct Allocator {
    void* (*allocate)(std::size_t) = nullptr;
    void (*release)(void*) = nullptr;
};

// In a scope of its own: the program's malloc, and that of the other contestants, stays the C library's. Never closed.
const Allocator* mimalloc(std::string* reason) {
    static std::string failure;
    static const Allocator found = [] {
        Allocator made;
        void* const library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            failure = dlerror();
            return made;
        }
        made.allocate = reinterpret_cast<void* (*)(std::size_t)>(dlsym(library, "mi_malloc"));
        made.release = reinterpret_cast<void (*)(void*)>(dlsym(library, "mi_free"));
        if (made.allocate == nullptr || made.release == nullptr) failure = "libmimalloc.so.2 has no mi_malloc or no mi_free";
        return made;
    }();
    if (reason != nullptr) *reason = failure;
    return failure.empty() ? &found : nullptr;
}

struct Malloc {
    static constexpr bool keeps_objects = false;
    explicit Malloc(const Load& load) : size(load.size) {}
    struct User {
        User(Malloc& of, std::size_t) : pool(of) {}
        Object* pop() { return static_cast<Object*>(std::malloc(pool.size)); }
        void push(Object* object) { std::free(object); }
        const Malloc& pool;
    };
    std::size_t size;
};

struct Mimalloc {
    static constexpr bool keeps_objects = false;
    explicit Mimalloc(const Load& load) : size(load.size), allocator(*mimalloc(nullptr)) {}
    struct User {
        User(Mimalloc& of, std::size_t) : pool(of) {}
        Object* pop() { return static_cast<Object*>(pool.allocator.allocate(pool.size)); }
        void push(Object* object) { pool.allocator.release(object); }
        const Mimalloc& pool;
    };
    std::size_t size;
    const Allocator allocator;
};

constexpr const char* not_in_handlers = "an allocator is not on the list of what signal handlers may call";

}  // namespace

void add_allocators(std::vector<Contestant>& all) {
    all.push_back({.id = "malloc", .burst = &burst<Malloc>, .aligns = false, .not_in_handlers = not_in_handlers});
    Contestant other{.id = "mimalloc", .burst = &burst<Mimalloc>, .aligns = false, .not_in_handlers = not_in_handlers};
    if (mimalloc(&other.absent) == nullptr) other.burst = nullptr;
    all.push_back(other);
}

}  // namespace bench::pool
