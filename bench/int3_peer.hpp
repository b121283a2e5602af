// SPDX-License-Identifier: MIT
// The peer that needs neither a kernel's help nor room for a jump: int3 in the place of the first byte, and a handler of
// SIGTRAP that goes on in a copy of the first instruction. It does nothing else, so it is the least that such a probe costs.
//
//     bytes before   55              push %rbp          copy   55                 push %rbp
//                    ...                                       ff 25 00000000     jmp *0(%rip)
//     bytes after    cc              int3                      <address of ...>
//                    ...
#pragma once

#include <csignal>
#include <cstddef>
#include <expected>
#include <memory>
#include <string>

#include "probe_targets.hpp"

namespace bench::probes {

// While it lives, the site is probed and SIGTRAP is its own. One at a time; no thread runs the site while it comes or goes.
class Int3Peer {
public:
    // Error: in words, which call was refused.
    static std::expected<std::shared_ptr<Int3Peer>, std::string> arm(const Site&);
    ~Int3Peer();
    Int3Peer(const Int3Peer&) = delete;
    Int3Peer& operator=(const Int3Peer&) = delete;

private:
    explicit Int3Peer(const Site& site) : site_(site) {}
    std::string make_copy();  // these return why not
    std::string take_signal();
    std::string write_first(std::byte) const;

    Site site_;
    std::byte* copy_ = nullptr;
    std::byte before_{};
    bool written_ = false, signal_taken_ = false;
    struct sigaction former_ {};
};

}  // namespace bench::probes
