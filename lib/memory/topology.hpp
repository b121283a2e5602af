// SPDX-License-Identifier: MIT
// Which CPUs are near each other: who shares a last-level cache, and who a NUMA node. A pool looks for objects nearby first.
//
// CPUs get positions, ordered by node, then last-level cache, then number, so that "the same cache" and "the same node" are
// ranges: a search that begins at a CPU's own position, goes round its cache's range, then its node's, then all, meets the
// near ones first. Linux numbers CPUs otherwise: the two threads of a core often lie half the machine apart, and on some
// machines every other CPU belongs to the other node.
//
//     CPU        0  2  1  3          two nodes with interleaved numbers, each node one cache
//     position   0  1  2  3          cache and node of CPU 2: [0, 2)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dynfunc {

struct Topology {
    // All but `node` are positions; [begin, end) are ranges of positions, and the cache's lies within the node's.
    struct Cpu {
        std::uint16_t position = 0, cache_begin = 0, cache_end = 0, node_begin = 0, node_end = 0;
        std::uint16_t node = 0;  // index into `nodes`
    };
    std::vector<Cpu> cpus;             // by CPU number, as many as were asked for
    std::vector<std::uint16_t> at;     // the CPU at a position
    std::vector<std::uint16_t> nodes;  // the system's numbers of the nodes that have one of these CPUs, ascending; never empty
};

// Reads below `sys` (normally "/sys") what the system says about CPUs 0 to `cpus` - 1; at most 65535, which is more than Linux
// numbers.
// What cannot be read, or is garbage, counts as one: a machine without node files has one node, a node whose CPUs tell nothing
// of caches one cache. A CPU that no node file names (offline, only possible) goes to node index 0.
// The last-level cache is the highest level that the CPU lists, not of instructions; where nodes divide it, each has its part.
// Threads: any.  Blocks: on files of sysfs: about three per cache and CPU that tells a new one.
// Errors:  none but std::bad_alloc.
Topology read_topology(const char* sys, std::size_t cpus);

// One more than the highest number that a CPU of this machine can have, which all its files and all that the kernel tells of
// CPUs stay below. Read below `sys` too; where that says nothing, as many as the kernel's CPU masks have bits.
// Errors: none but std::bad_alloc.
std::size_t possible_cpus(const char* sys);

}  // namespace dynfunc
