// SPDX-License-Identifier: MIT
// A memory resource over a heap of mimalloc's: a library of its own, dynfunc-mimalloc (pkg-config), dynfunc::mimalloc (CMake).
//
//     dynfunc::MimallocHeap heap;                                               // outlives what lives in it
//     auto frames = dynfunc::ObjectPool<Frame>::create({.capacity = 256, .memory = &heap});
//     std::pmr::vector<int> numbers(&heap);
//
// What else comes with it? Where mimalloc exists as a shared library only (Debian), whatever links this one runs with
// libmimalloc.so in place of malloc, free, new and delete, in the whole process. That is how mimalloc is made; who wants only
// its heaps, and the process's malloc as it was, links a mimalloc that was built with -DMI_OVERRIDE=OFF. Nothing else of
// dynfunc needs mimalloc: a program that does not link dynfunc-mimalloc does not load it.
//
// Beware of Debian 12's mimalloc (2.0.9) in that role: its aligned new and aligned_alloc() return memory that is not aligned
// where 256, 512 or 1024 are asked for and the size is a power of two (microsoft/mimalloc#700). This class does not.
//
// Which thread? mimalloc's rule: a heap allocates in the thread that made it and in no other; memory is freed in any. A
// container that grows in another thread therefore needs another resource. Breaking the rule would corrupt the heap silently,
// so that this class ends the process with one line on stderr instead.
//
// What if the resource is destroyed first? Its memory stays allocated: it moves to the heap that malloc uses in that thread,
// or, if the thread has ended, to whichever thread needs it next. A block is freed as any of mimalloc's is, by mi_free() or,
// where it replaces free(), by that; but a container calls its resource, which must still exist.
//
// And in another thread, or after the one that made it has ended? Allowed, then nothing is done: mimalloc deletes a heap when
// its thread ends. Until then its free pages are kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <dynfunc/detail/export.hpp>

namespace dynfunc {

// Equals itself alone, although one heap can free what another allocated: a container that is moved to another heap moves its
// elements there, and with them the thread that may grow it.
class DYNFUNC_EXPORT MimallocHeap : public std::pmr::memory_resource {
public:
    // Where there is no memory for a heap, each allocate() throws.
    MimallocHeap() noexcept;
    // Threads: any, but nobody uses the resource any more.
    ~MimallocHeap() override;
    MimallocHeap(const MimallocHeap&) = delete;
    MimallocHeap& operator=(const MimallocHeap&) = delete;

private:
    // Threads: the one that made the heap; another ends the process ("dynfunc: a MimallocHeap allocates only in ...").
    // Blocks:  in the kernel only. Not from signal handlers.
    // Errors:  std::bad_alloc.
    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    // Threads: any. Not from signal handlers.
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override;
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override;

    void* heap_;            // mi_heap_t; valid while its thread lives, or null
    std::uint64_t thread_;  // the number of the thread that made it
};

}  // namespace dynfunc
