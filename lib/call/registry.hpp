// SPDX-License-Identifier: MIT
// Every dynamic function of the process: which shared objects brought it, which trampolines reach it, what it points at.
//
// The key holds the truth (its target); slots and patched text are caches of it. INV-cache: under the text lock, outside an
// update, every bound trampoline leads to its key's target.
#pragma once

#include <span>

#include <dynfunc/detail/tables.hpp>
#include <dynfunc/dynfunc.hpp>

#include "arch.hpp"
#include "fork_watch.hpp"
#include "lock.hpp"
#include "scratch.hpp"
#include "text_poke.hpp"

namespace dynfunc {

// Leads a function to a target; one element of an update. Once the targets are exchanged it holds the old one.
struct Change {
    detail::FunctionKey* key;
    void* target;  // INV-callable-target
};

// Whether updates reach the trampoline through its slot; otherwise it asks the key.
inline bool has_slot(const detail::TrampolineRecord& record) noexcept {
    return record.state != detail::TrampolineState::unbound && record.state != detail::TrampolineState::asks_key;
}

// One per copy of the library, never destroyed.
class Registry {
public:
    static Registry& instance() noexcept;

    void enter(detail::Tables& tables) noexcept;
    void leave(detail::Tables& tables) noexcept;
    Result<void> retarget(std::span<const Retarget> batch) noexcept;

    // Calls visit(key) for every registered function, under the lock.
    template <class Visit>
    void for_each_function(Visit&& visit) {
        const Hold hold(*this);
        for (detail::Tables* tables = first_; tables != nullptr; tables = tables->next)
            for (detail::FunctionKey* entry = tables->keys; entry != tables->keys_end; ++entry)
                if (detail::FunctionKey* key = used(*entry); key != nullptr && key->owner == this) visit(*key);
    }

private:
    // Holds the text lock; first makes a fresh child process our own, if that is where we are.
    class Hold {
    public:
        explicit Hold(Registry& registry) noexcept;
        ~Hold() { registry_.lock_.unlock(); }
        Hold(const Hold&) = delete;

    private:
        Registry& registry_;
    };

    // registry.cpp: what comes and goes
    void start() noexcept;
    detail::FunctionKey* used(detail::FunctionKey& entry) const noexcept;
    bool claim(detail::FunctionKey& key) noexcept;
    bool bind(detail::TrampolineRecord& record) noexcept;
    void unbind(detail::TrampolineRecord& record) noexcept;
    void abandon_targets_in(const detail::Tables& leaving) noexcept;
    enum class Copied { under_the_lock, at_any_moment };  // how this process was made: by fork(), by a raw clone
    void adopt_child(Copied copied) noexcept;
    void rebuild_caches() noexcept;

    // update.cpp: one change of many functions
    void begin_update() noexcept;
    Result<void> collect(std::span<const Retarget> batch) noexcept;
    bool plan(detail::TrampolineRecord& record, void* target, std::size_t element) noexcept;
    bool plan_all(const detail::FunctionKey& key, void* target, std::size_t element) noexcept;
    void exchange_targets() noexcept;
    Result<void> apply_changes() noexcept;

    RankedMutex lock_{LockRank::text};
    ForkWatch fork_watch_;
    bool started_ = false;
    bool exiting_ = false;
    detail::Tables* first_ = nullptr;

    // What one trampoline is to become.
    struct Planned {
        detail::TrampolineRecord* record;
        detail::TrampolineState state;
        std::uint64_t word;
    };
    Planned wanted(detail::TrampolineRecord& record, void* target) const noexcept;

    // Of the update in progress; kept for their memory.
    Scratch<Change> changes_;
    Scratch<Planned> planned_;
    Scratch<Poke> pokes_;
};

}  // namespace dynfunc
