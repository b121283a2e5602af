// SPDX-License-Identifier: MIT
// The classical return probe: at the function's begin the return address on the stack is replaced by a trampoline's, and kept
// in an entry of the thread until the trampoline, where the function then "returns" to, asks for it. Made as cheap as it can
// be, of what tracers in the kernel do: the way in is a call in the place of the nop of 5 bytes that the function begins with.
//
//     bytes before   0f 1f 44 00 00    nop                    the caller's stack before   return address
//     bytes after    e8 rel32          call bench_hijack_...  after                       bench_hijack_return_...
//
// Like ours it keeps all general registers around a handler, which does nothing. Unlike ours it cannot be unwound through,
// every return goes where the processor did not expect it, and a shadow stack would forbid it.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "probe_targets.hpp"

namespace bench::probes {

// Where free entries are kept.
enum class HijackEntries : std::uint8_t {
    array,     // each thread has its own, in the order of its calls: nothing is shared
    pool,      // a dynfunc::ObjectPool
    freelist,  // a lock-free list for all threads: Treiber's, its head counted up with each change
};

// While it lives the functions are probed. One at a time of each kind; no thread runs them while it comes or goes.
class HijackPeer {
public:
    // Error: in words, what was refused.
    static std::expected<std::shared_ptr<HijackPeer>, std::string> arm(std::span<const Site>, HijackEntries,
                                                                       std::size_t max_active);
    ~HijackPeer();
    HijackPeer(const HijackPeer&) = delete;
    HijackPeer& operator=(const HijackPeer&) = delete;

    // Calls that found no entry, and returned unseen.
    std::uint64_t missed() const;

private:
    HijackPeer(std::span<const Site> sites, HijackEntries entries) : sites_(sites.begin(), sites.end()), entries_(entries) {}

    std::vector<Site> sites_;
    std::size_t written_ = 0;
    HijackEntries entries_;
};

}  // namespace bench::probes
