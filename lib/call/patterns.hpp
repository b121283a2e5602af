// SPDX-License-Identifier: MIT
// Who listens to tracepoints by the pattern of their names: attached to those that are there, and to each that arrives.
#pragma once

#include <dynfunc/trace_pattern.hpp>

#include "lock.hpp"

namespace dynfunc {

class Pattern;

// One per copy of the library, never destroyed. Its lock is held while tracepoints arrive and leave, so that a pattern and a
// key that it was matched with stay together until the attachment is made.
class Patterns {
public:
    static Patterns& instance() noexcept;

    Result<PatternSubscription> subscribe(std::string_view glob, std::unique_ptr<detail::PatternCallback> callback,
                                          const AttachOptions& options) noexcept;
    Result<void> detach(Pattern& pattern) noexcept;
    std::size_t attached(const Pattern& pattern) noexcept;
    std::size_t missed(const Pattern& pattern) noexcept;

    void arrived(detail::Tables& tables) noexcept;
    // Has the registry let them go, and lets go of callbacks whose code leaves with them. False: nothing leaves, the process
    // ends. Blocks: as synchronize(), if there are such callbacks.
    bool leave(detail::Tables& tables) noexcept;

    // Around fork().
    void lock() noexcept { lock_.lock(); }
    void unlock() noexcept { lock_.unlock(); }
    void reset_in_child() noexcept { lock_.reset_in_child(); }

private:
    class Hold;
    template <class ForEach>
    Result<void> attach(Pattern& pattern, ForEach&& for_each_tracepoint);

    RankedMutex lock_{LockRank::patterns};
    Pattern* first_ = nullptr;
};

}  // namespace dynfunc
