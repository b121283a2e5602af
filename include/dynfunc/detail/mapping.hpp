// SPDX-License-Identifier: MIT
// Memory from the system, past malloc; what MappedMemory stands on.
#pragma once

#include <cstddef>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

// New zeroed memory of its own, at a multiple of `alignment` (a power of two; up to a page costs nothing) and of the page.
// With huge_pages its size is rounded up to a multiple of 2 MiB and it begins at one. Where the system has reserved huge pages
// of that size free, they are taken and filled at once; elsewhere the kernel is asked to use transparent ones (madvise), and
// what it cannot serve are plain pages. Null: no memory or no room for a mapping, errno tells; otherwise errno is kept.
DYNFUNC_EXPORT void* map_memory(std::size_t bytes, std::size_t alignment, bool huge_pages) noexcept;

// Gives back what map_memory() gave for the same `bytes` and `huge_pages`. Keeps errno.
DYNFUNC_EXPORT void unmap_memory(void* memory, std::size_t bytes, bool huge_pages) noexcept;

}  // namespace dynfunc::detail
