// SPDX-License-Identifier: MIT
// Memory from the system, and on which NUMA node it lies.
#pragma once

#include <dynfunc/detail/mapping.hpp>

namespace dynfunc {

// The contracts stand at the exported functions.
inline void* map_memory(std::size_t bytes, bool huge_pages) noexcept { return detail::map_memory(bytes, 1, huge_pages); }
inline void unmap_memory(void* memory, std::size_t bytes, bool huge_pages) noexcept {
    detail::unmap_memory(memory, bytes, huge_pages);
}

// Asks for the whole pages inside [at, at + bytes) to come from node `node` while it has some (the system's number: mbind,
// MPOL_PREFERRED). It decides where pages come from that nobody has touched yet; what lies somewhere already stays there, and
// so do reserved huge pages, which map_memory() fills. The calling thread's own policy does not matter afterwards. False: the
// system refuses (no such node, not allowed to this process, no NUMA in this kernel, a seccomp filter); the pages come from
// where they are first touched, as without this call. Keeps errno. Threads: any.  Blocks: no.
bool prefer_node(void* at, std::size_t bytes, unsigned node) noexcept;

}  // namespace dynfunc
