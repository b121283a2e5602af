// SPDX-License-Identifier: MIT
// A memory resource that maps each allocation from the system, past malloc; with .huge_pages fewer misses of the address
// translation for large ones. An object pool without a resource of its own uses such memory anyway (PoolOptions::huge_pages).
//
//     dynfunc::MappedMemory memory({.huge_pages = true});                                  // outlives what lives in it
//     std::pmr::vector<Order> orders(1 << 20, &memory);
//
// For few, large allocations: each is a mapping of its own, rounded up to pages (4 KiB), with .huge_pages to 2 MiB. New memory
// is zero. The kernel places each page on the NUMA node of the thread that touches it first, unless told otherwise.
//
// .huge_pages never fails for lack of them. Where the system has reserved huge pages of 2 MiB free (vm.nr_hugepages), the
// allocation consists of those; they are all touched at once, in the calling thread, and so placed on its node: a control
// group or cpuset that grants fewer would otherwise end the process at the first touch of one too many. Elsewhere it is aligned
// to 2 MiB and the kernel is asked for transparent ones, which it gives as it can. In a forked child the copy of a reserved
// huge page needs another one: where none is free, the kernel kills the child that writes to it.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <new>

#include <dynfunc/detail/export.hpp>
#include <dynfunc/detail/mapping.hpp>

namespace dynfunc {

struct MappedMemoryOptions {
    bool huge_pages = false;
};

// Has no state but its options: one resource may free what an equal one allocated.
// Threads: any, at once.
// Blocks:  in the kernel only.
// Errors:  allocate() throws std::bad_alloc: no memory, no room for a mapping. Every alignment is honoured; up to a page (with
//          .huge_pages up to 2 MiB) it costs nothing.
class DYNFUNC_EXPORT MappedMemory : public std::pmr::memory_resource {
public:
    MappedMemory() noexcept = default;
    explicit MappedMemory(MappedMemoryOptions options) noexcept : options_(options) {}

    const MappedMemoryOptions& options() const noexcept { return options_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* memory = detail::map_memory(bytes, alignment, options_.huge_pages);
        if (memory == nullptr) throw std::bad_alloc();
        return memory;
    }
    void do_deallocate(void* memory, std::size_t bytes, std::size_t) override {
        detail::unmap_memory(memory, bytes, options_.huge_pages);
    }
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        const auto* same = dynamic_cast<const MappedMemory*>(&other);
        return same != nullptr && same->options_.huge_pages == options_.huge_pages;
    }

    MappedMemoryOptions options_;
};

}  // namespace dynfunc
