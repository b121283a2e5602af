// SPDX-License-Identifier: MIT
#include <dynfunc/mimalloc_heap.hpp>

#include <mimalloc.h>
#include <pthread.h>

#include <atomic>
#include <new>

#include "fatal.hpp"

namespace dynfunc {
namespace {

// Threads by numbers that are never used twice; thread ids and addresses of thread-locals are, and a heap of an ended thread
// must not be taken for one of the thread that got its id.
constinit std::atomic<std::uint64_t> last_number{0};
[[gnu::tls_model("initial-exec")]] thread_local constinit std::uint64_t own_number = 0;

pthread_key_t thread_end;
constinit bool has_thread_end = false;

// mimalloc deletes a thread's heaps in the destructor of a key that it makes when it is loaded. Destructors of keys run in the
// order in which the keys were made, so this one comes right after, and before those of the program's own keys: to what these
// do, the heaps made before are another thread's.
[[gnu::constructor(101)]] void watch_thread_ends() noexcept {
    has_thread_end = pthread_key_create(&thread_end, [](void*) { own_number = 0; }) == 0;
}

// A static copy that is unloaded with its plugin must not be called when a thread ends.
[[gnu::destructor(101)]] void stop_watching() noexcept {
    if (has_thread_end) pthread_key_delete(thread_end);
    has_thread_end = false;
}

std::uint64_t number_of_this_thread() noexcept {
    if (own_number == 0) {
        own_number = last_number.fetch_add(1, std::memory_order_relaxed) + 1;
        if (has_thread_end) pthread_setspecific(thread_end, &own_number);
    }
    return own_number;
}

}  // namespace

MimallocHeap::MimallocHeap() noexcept : heap_(mi_heap_new()), thread_(number_of_this_thread()) {}

// In another thread: the heap is its own thread's to delete, which it does when it ends, or has done.
MimallocHeap::~MimallocHeap() {
    if (heap_ != nullptr && thread_ == own_number) mi_heap_delete(static_cast<mi_heap_t*>(heap_));
}

void* MimallocHeap::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (thread_ != own_number) fatal("a MimallocHeap allocates only in the thread that made it, and while that lives");
    if (heap_ == nullptr) throw std::bad_alloc();
    // With the offset: up to 2.0.9 mi_heap_malloc_aligned() takes a short cut for sizes that are powers of two and returns
    // memory that is not aligned to 256, 512 or 1024 (microsoft/mimalloc#700).
    void* memory = mi_heap_malloc_aligned_at(static_cast<mi_heap_t*>(heap_), bytes, alignment, 0);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void MimallocHeap::do_deallocate(void* memory, std::size_t, std::size_t) { mi_free(memory); }

bool MimallocHeap::do_is_equal(const std::pmr::memory_resource& other) const noexcept { return this == &other; }

}  // namespace dynfunc
