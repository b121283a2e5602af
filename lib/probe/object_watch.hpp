// SPDX-License-Identifier: MIT
// Which objects are loaded, and a call whenever that changes, before a constructor of theirs runs.
#pragma once

#include <dynfunc/probe.hpp>

#include <link.h>

#include <type_traits>
#include <utility>
#include <vector>

#include "exported_functions.hpp"

namespace dynfunc {

// A probe on what the dynamic linker calls when its list of objects has changed, for debuggers.
struct ObjectWatch {
    const r_debug* debug = nullptr;  // null: nothing is ever loaded
    Probe probe{};

    // visit(object_of) for each of the list, the program first; object_of() makes the LoadedObject, or throws std::bad_alloc.
    // In on_change only: elsewhere nothing keeps them loaded.
    template <class Visit>
    void for_each(Visit&& visit) const {
        for (const link_map* map = debug->r_map; map != nullptr; map = map->l_next)
            visit([map, this] { return LoadedObject{Address{map->l_addr}, map->l_ld, map->l_name, map == debug->r_map}; });
    }
    bool is_listed(const LoadedObject& object) const noexcept;
    // Otherwise the list is about to change.
    bool is_consistent() const noexcept { return __atomic_load_n(&debug->r_state, __ATOMIC_ACQUIRE) == r_debug::RT_CONSISTENT; }
};

// `on_change` runs as a probe's handler does, in the thread that loads or unloads, which holds the dynamic linker's lock:
// before the list changes, when nothing is unmapped yet, and when it has changed and is consistent; then what is new is mapped
// and not relocated, and none of its code has run.  Errors: of the probe.
Result<ObjectWatch> watch_objects(void (*on_change)() noexcept);

namespace detail {
Result<void> visit_loaded_objects(void (*visit)(void* data, LoadedObject& object), void* data);
}
// visit(object) for what is loaded now, while nothing can be unloaded.  Blocks: on the dynamic linker's lock.
// Errors: out_of_memory, also where `visit` throws std::bad_alloc; it throws nothing else.
template <class Visit>
Result<void> for_each_loaded_object(Visit&& visit) {
    return detail::visit_loaded_objects(
        [](void* data, LoadedObject& object) { (*static_cast<std::remove_reference_t<Visit>*>(data))(object); }, &visit);
}

// Keeps an object loaded; nothing is kept where it is not loaded any more. Asks the dynamic linker: not under a lock.
class KeepLoaded {
public:
    explicit KeepLoaded(const LoadedObject& object) noexcept;
    KeepLoaded(KeepLoaded&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), is_loaded_(other.is_loaded_) {}
    ~KeepLoaded();
    bool is_loaded() const noexcept { return is_loaded_; }

private:
    void* handle_;
    bool is_loaded_ = false;
};

}  // namespace dynfunc
