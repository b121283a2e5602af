// SPDX-License-Identifier: MIT
#include "mapped_memory.hpp"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>

#include "os.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

namespace dynfunc {
namespace {

// A size that x86-64 has, and arm64 with every size of its pages. The size that the system calls its default may be 512 MiB or
// 1 GiB, which nobody wants a pool rounded up to.
constexpr std::size_t huge_page = std::size_t{2} << 20;

std::size_t unit(bool huge_pages) noexcept { return huge_pages ? huge_page : os::page_size(); }

// 0: more than there is.
std::size_t round_up(std::size_t bytes, std::size_t to) noexcept {
    const std::size_t rounded = (bytes + to - 1) & ~(to - 1);
    if (bytes == 0) return to;
    return rounded < bytes ? 0 : rounded;
}

std::byte* map(std::size_t size, int flags) noexcept {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

// At the limit of mappings the kernel does not cut one in two: then the pages, at least, go back.
void unmap(std::byte* memory, std::size_t size) noexcept {
    if (size != 0 && munmap(memory, size) != 0) madvise(memory, size, MADV_DONTNEED);
}

// `size` and `alignment` are multiples of `granule`, which every mapping with these flags begins at.
std::byte* map_aligned(std::size_t size, std::size_t alignment, std::size_t granule, int flags) noexcept {
    const std::size_t spare = alignment - granule;
    if (size + spare < size) {
        errno = ENOMEM;
        return nullptr;
    }
    std::byte* memory = map(size + spare, flags);
    if (memory == nullptr) return nullptr;
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(memory) & (alignment - 1);
    unmap(memory, before);
    unmap(memory + before + size, spare - before);
    return memory + before;
}

// The kernel promises a reserved page to each of a mapping's, but keeps its word only within the limits of a control group and
// of a cpuset, which it looks at when a page is touched; beyond them it answers with SIGBUS. So all are touched here.
std::byte* map_reserved_huge_pages(std::size_t size, std::size_t alignment) noexcept {
    std::byte* memory = map_aligned(size, alignment, huge_page, MAP_HUGETLB | MAP_HUGE_2MB);
    if (memory != nullptr && madvise(memory, size, MADV_POPULATE_WRITE) != 0) {
        unmap(memory, size);
        memory = nullptr;
    }
    return memory;
}

}  // namespace

void* detail::map_memory(std::size_t bytes, std::size_t alignment, bool huge_pages) noexcept {
    const int saved = errno;
    const std::size_t granule = unit(huge_pages), size = round_up(bytes, granule);
    if (alignment < granule) alignment = granule;
    if (size == 0) {
        errno = ENOMEM;
        return nullptr;
    }
    std::byte* memory = huge_pages ? map_reserved_huge_pages(size, alignment) : nullptr;
    if (memory == nullptr) memory = map_aligned(size, alignment, os::page_size(), 0);
    if (memory == nullptr) return nullptr;
    if (huge_pages) madvise(memory, size, MADV_HUGEPAGE);  // refused by a kernel without them, and for reserved ones
    errno = saved;
    return memory;
}

void detail::unmap_memory(void* memory, std::size_t bytes, bool huge_pages) noexcept {
    const os::KeepErrno keep;
    unmap(static_cast<std::byte*>(memory), round_up(bytes, unit(huge_pages)));
}

bool prefer_node(void* at, std::size_t bytes, unsigned node) noexcept {
    constexpr unsigned word_bits = sizeof(unsigned long) * CHAR_BIT, most_nodes = 1024;  // Linux has no more
    if (node >= most_nodes) return false;
    const std::size_t page = os::page_size();
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    const std::uintptr_t begin = (address + page - 1) & ~(page - 1), end = (address + bytes) & ~(page - 1);
    if (begin >= end) return true;
    unsigned long nodes[most_nodes / word_bits]{};
    nodes[node / word_bits] |= 1UL << node % word_bits;
    const os::KeepErrno keep;
    // The kernel counts one bit less than it is told.
    return syscall(SYS_mbind, begin, end - begin, long{MPOL_PREFERRED}, nodes, long{most_nodes} + 1, 0L) == 0;
}

}  // namespace dynfunc
