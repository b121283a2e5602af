// SPDX-License-Identifier: MIT
// What is attached, and the lists of it: made before the lock is taken, given back after a grace period.
#include <algorithm>
#include <new>

#include "callbacks.hpp"
#include "registry.hpp"

namespace dynfunc {

using detail::AttachedCallback;
using detail::Callback;

namespace {

// A resource may be the user's own.
void* allocate(std::pmr::memory_resource& memory, std::size_t bytes, std::size_t alignment) noexcept {
    try {
        return memory.allocate(bytes, alignment);
    } catch (...) {
        return nullptr;
    }
}

void reclaim_list(Retired& item) noexcept { OwnedList::free(static_cast<OwnedList*>(&item)); }
void reclaim_callback(Retired& item) noexcept { AttachedCallback::free(static_cast<AttachedCallback*>(&item)); }

// Not under the lock.
void release_after_grace_period(const ChainBlock& chain) noexcept {
    if (!chain) return;
    const Registry::Hold hold(Registry::instance());
    ChainArea::release(chain);
}

}  // namespace

std::size_t OwnedList::live() const noexcept {
    return static_cast<std::size_t>(std::count_if(begin, end, [](const Callback& callback) { return is_live(callback); }));
}

constinit std::pmr::memory_resource* OwnedList::source = nullptr;

OwnedList* OwnedList::make(std::size_t capacity) noexcept {
    auto* memory = source != nullptr ? source : std::pmr::new_delete_resource();
    void* place = allocate(*memory, sizeof(OwnedList) + capacity * sizeof(Callback), alignof(OwnedList));
    if (place == nullptr) return nullptr;
    auto* list = new (place) OwnedList{};
    list->Retired::reclaim = &reclaim_list;
    list->memory = memory;
    list->capacity = capacity;
    list->clear();
    return list;
}

void OwnedList::free(OwnedList* list) noexcept {
    if (list == nullptr) return;
    release_after_grace_period(list->chain);
    list->memory->deallocate(list, sizeof(OwnedList) + list->capacity * sizeof(Callback), alignof(OwnedList));
}

AttachedCallback* AttachedCallback::make(const CallbackShape& shape, const AttachOptions& options) noexcept {
    auto* memory = options.memory != nullptr ? options.memory : std::pmr::new_delete_resource();
    const std::size_t alignment = std::max(alignof(AttachedCallback), shape.object_alignment);
    const std::size_t object_at = (sizeof(AttachedCallback) + alignment - 1) / alignment * alignment;
    const std::size_t bytes = object_at + shape.object_bytes;
    void* place = allocate(*memory, bytes, alignment);
    if (place == nullptr) return nullptr;
    auto* made = new (place) AttachedCallback{};
    made->Retired::reclaim = &reclaim_callback;
    made->function = shape.function;
    made->object = shape.object_bytes != 0 ? static_cast<std::byte*>(place) + object_at : nullptr;
    made->data = made->object != nullptr ? made->object : shape.data;
    made->with_data = shape.with_data;
    made->static_lifetime = options.static_lifetime && !shape.with_data;
    made->counted = options.count_hits;
    made->priority = options.priority;
    made->memory = memory;
    made->bytes = bytes;
    made->alignment = alignment;
    return made;
}

void AttachedCallback::destroy_object() noexcept {
    if (destroy != nullptr) destroy(object);
    destroy = nullptr;
}

void AttachedCallback::free(AttachedCallback* callback) noexcept {
    callback->destroy_object();
    release_after_grace_period(callback->chain);
    OwnedList::free(callback->replacement);
    callback->memory->deallocate(callback, callback->bytes, callback->alignment);
}

}  // namespace dynfunc
