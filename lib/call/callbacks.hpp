// SPDX-License-Identifier: MIT
// What is attached to tracepoints: callbacks, and the lists and generated code that lead to them.
#pragma once

#include <dynfunc/detail/trace.hpp>
#include <dynfunc/tracepoint.hpp>

#include "chain_area.hpp"

namespace dynfunc {

// An immutable list, reclaimed after a grace period. Its entries lie behind it.
struct OwnedList : detail::CallbackList, Retired {
    std::pmr::memory_resource* memory;
    std::size_t capacity;
    ChainBlock chain;  // the code made for it

    // Where lists come from; they live longer than any one of their callbacks. Null: new and delete. Set by tests.
    static std::pmr::memory_resource* source;

    // Null: no memory.
    static OwnedList* make(std::size_t capacity) noexcept;
    // Not under the text lock. Null: nothing.
    static void free(OwnedList* list) noexcept;

    detail::Callback* entries() noexcept { return reinterpret_cast<detail::Callback*>(this + 1); }
    void clear() noexcept { begin = end = entries(); }
    void push_back(const detail::Callback& callback) noexcept { entries()[end++ - begin] = callback; }
    // Those that were not detached in place.
    std::size_t live() const noexcept;
};

inline OwnedList* list_of(const detail::TracepointKey& key) noexcept {
    return static_cast<OwnedList*>(const_cast<detail::CallbackList*>(key.list));
}
inline std::size_t live_callbacks(const detail::TracepointKey& key) noexcept {
    return key.list != nullptr ? list_of(key)->live() : 0;
}

struct detail::AttachedCallback : Retired {
    TracepointKey* key;  // attached to; null: not yet, or no more. Under the text lock
    void* function;
    void* data;
    bool with_data, static_lifetime, counted;
    int priority;
    std::uint64_t hits;
    void* object;                            // a callable behind this, or null
    void (*destroy)(void* object) noexcept;  // null: there is none, or it is destroyed already
    std::pmr::memory_resource* memory;
    std::size_t bytes, alignment;

    OwnedList* replacement;  // prepared for the next list of the key, if it is large enough when the lock is held
    std::size_t wanted;      // how large it should be
    OwnedList* replaced;     // while it is being attached: the list before
    bool was_shown;          // it was part of an update that failed: a thread may have met it
    ChainBlock chain;        // code that is to be reclaimed with this, because its list stays

    // A DSO took the callable along. The handle stays; whoever comes last, it or the grace period, frees this.
    struct Dropped : Retired {
        AttachedCallback* callback;
    } dropped;
    enum class Drop : std::uint8_t { no, waiting, orphaned, done } drop;  // under the text lock

    // Null: no memory.
    static AttachedCallback* make(const CallbackShape& shape, const AttachOptions& options) noexcept;
    // Destroys the callable, and frees. Not under the text lock.
    static void free(AttachedCallback* callback) noexcept;
    void destroy_object() noexcept;

    Callback entry() noexcept { return {function, data, counted ? &hits : nullptr, with_data, static_lifetime, this}; }
};

inline bool is_live(const detail::Callback& callback) noexcept { return callback.function != nullptr; }

}  // namespace dynfunc
