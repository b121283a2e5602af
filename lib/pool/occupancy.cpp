// SPDX-License-Identifier: MIT
#include "occupancy.hpp"

#include <new>

#include "mapped_memory.hpp"
#include "os.hpp"

namespace dynfunc {
namespace {

// What a block begins with; its words follow, and may still be set by a latecomer while nobody uses it.
struct Unused {
    Unused* next = nullptr;
};

constexpr std::size_t classes = 16;  // of 2^class words each for `filled` and `open`
constinit std::atomic<Unused*> unused[classes]{};

std::size_t class_of(std::size_t bits) noexcept { return static_cast<std::size_t>(std::bit_width((bits + 63) / 64 - 1)); }
std::size_t words_of(std::size_t size_class) noexcept { return std::size_t{1} << size_class; }

// In lines of their own.
std::size_t bytes_of(std::size_t size_class) noexcept {
    return (sizeof(Unused) + 2 * words_of(size_class) * sizeof(std::uint64_t) + 63) / 64 * 64;
}

void put_back(std::size_t size_class, Unused* first, Unused* last) noexcept {
    last->next = unused[size_class].load(std::memory_order_relaxed);
    while (!unused[size_class].compare_exchange_weak(last->next, first, std::memory_order_release, std::memory_order_relaxed)) {
    }
}

// Takes all and puts the rest back, so that nobody ever reads the `next` of a block that another thread may have taken.
Unused* take(std::size_t size_class) noexcept {
    Unused* first = unused[size_class].exchange(nullptr, std::memory_order_acquire);
    if (first == nullptr || first->next == nullptr) return first;
    Unused* last = first->next;
    while (last->next != nullptr) last = last->next;
    put_back(size_class, first->next, last);
    return first;
}

Unused* make_more(std::size_t size_class) noexcept {
    const std::size_t bytes = bytes_of(size_class);
    const std::size_t mapped = bytes > os::page_size() ? bytes : os::page_size();
    auto* memory = static_cast<std::byte*>(map_memory(mapped, false));
    if (memory == nullptr) return nullptr;
    for (std::size_t at = bytes; at + bytes <= mapped; at += bytes) {
        auto* block = new (memory + at) Unused{};
        put_back(size_class, block, block);
    }
    return new (memory) Unused{};
}

}  // namespace

Occupancy make_occupancy(std::size_t bits) noexcept {
    const std::size_t size_class = class_of(bits);
    if (size_class >= classes) return {};
    Unused* block = take(size_class);
    if (block == nullptr) block = make_more(size_class);
    if (block == nullptr) return {};
    auto* words = reinterpret_cast<std::atomic<std::uint64_t>*>(block + 1);
    for (std::size_t i = 0; i < 2 * words_of(size_class); ++i) words[i].store(0, std::memory_order_relaxed);
    return {words, words + words_of(size_class)};
}

void leave_occupancy(const Occupancy& of, std::size_t bits) noexcept {
    auto* block = reinterpret_cast<Unused*>(of.filled) - 1;
    put_back(class_of(bits), block, block);
}

}  // namespace dynfunc
