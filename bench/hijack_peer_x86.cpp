// SPDX-License-Identifier: MIT
#include "hijack_peer.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <dynfunc/object_pool.hpp>
#include <optional>
#include <vector>

#include "threads.hpp"
#include "write_code.hpp"

// What hijack_peer_x86.S calls. It keeps no vector registers, so what is compiled here must not touch any: sequences of the
// pool do not; its slow ways are the library's and may, which no function of this bench notices.
#define GENERAL_REGISTERS gnu::target("general-regs-only")

namespace bench::probes {
namespace {

struct alignas(cache_line) Entry {
    std::uint64_t return_address;
    Entry* below;         // of the same thread
    std::uint32_t after;  // in the freelist: the number of the next one, counted from 1
};

// One for each kind, so that the thread's last entry is that of the call that ends. Constant-initialised, in the program: to
// read them calls nothing.
constinit thread_local Entry *last_of_pool = nullptr, *last_of_freelist = nullptr;

constexpr std::size_t most_nested = 256;
constinit thread_local std::size_t nested = 0;
// No std::array, whose functions are compiled for any register.
constinit thread_local std::uint64_t return_addresses[most_nested] = {};

// Treiber's stack. Its head counts its changes beside the number of the first entry, so that one that came back meanwhile is
// not taken for the one that was read.
struct Freelist {
    static constexpr std::uint64_t number = 0xffff'ffff, change = number + 1;

    alignas(2 * cache_line) std::uint64_t head = 0;
    alignas(2 * cache_line) Entry* entries = nullptr;

    [[GENERAL_REGISTERS]] Entry* pop() {
        std::uint64_t seen = __atomic_load_n(&head, __ATOMIC_ACQUIRE);  // (A) pairs with (B)
        while ((seen & number) != 0) {
            Entry& first = entries[(seen & number) - 1];
            // Of an entry that another thread has taken meanwhile this is any number; then the head has changed.
            const std::uint64_t next = ((seen & ~number) + change) | __atomic_load_n(&first.after, __ATOMIC_RELAXED);
            if (__atomic_compare_exchange_n(&head, &seen, next, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) return &first;
        }
        return nullptr;
    }
    [[GENERAL_REGISTERS]] void push(Entry* entry) {
        std::uint64_t seen = __atomic_load_n(&head, __ATOMIC_RELAXED), next = 0;
        do {
            __atomic_store_n(&entry->after, static_cast<std::uint32_t>(seen & number), __ATOMIC_RELAXED);
            next = ((seen & ~number) + change) | static_cast<std::uint64_t>(entry - entries + 1);
        } while (!__atomic_compare_exchange_n(&head, &seen, next, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));  // (B)
    }
};

// Set while nobody runs what is hijacked.
using Pool = dynfunc::ObjectPool<Entry>;
std::optional<Pool> pool;
constinit Freelist freelist;
std::vector<Entry> of_freelist;
constinit std::uint64_t missed_by[3] = {};

[[GENERAL_REGISTERS]] void miss(HijackEntries entries) {
    __atomic_fetch_add(&missed_by[static_cast<std::size_t>(entries)], 1, __ATOMIC_RELAXED);
}

[[GENERAL_REGISTERS]] void do_nothing(void*) {}

}  // namespace

extern "C" {
[[gnu::visibility("hidden")]] void bench_hijack_array();
[[gnu::visibility("hidden")]] void bench_hijack_pool();
[[gnu::visibility("hidden")]] void bench_hijack_freelist();
[[gnu::visibility("hidden")]] void bench_hijack_return_array();
[[gnu::visibility("hidden")]] void bench_hijack_return_pool();
[[gnu::visibility("hidden")]] void bench_hijack_return_freelist();

using Handler = void(void* registers);
[[gnu::visibility("hidden")]] constinit Handler* bench_hijack_on_return = &do_nothing;

[[gnu::visibility("hidden"), GENERAL_REGISTERS]] void bench_hijack_take_array(std::uint64_t* return_address) {
    if (nested == most_nested) return miss(HijackEntries::array);
    return_addresses[nested++] = *return_address;
    *return_address = reinterpret_cast<std::uint64_t>(&bench_hijack_return_array);
}

[[gnu::visibility("hidden"), GENERAL_REGISTERS]] std::uint64_t bench_hijack_give_array() { return return_addresses[--nested]; }

[[gnu::visibility("hidden")]] void bench_hijack_take_pool(std::uint64_t* return_address) {
    Entry* const entry = pool->try_pop_raw();
    if (entry == nullptr) return miss(HijackEntries::pool);
    entry->return_address = *return_address;
    entry->below = last_of_pool;
    last_of_pool = entry;
    *return_address = reinterpret_cast<std::uint64_t>(&bench_hijack_return_pool);
}

[[gnu::visibility("hidden")]] std::uint64_t bench_hijack_give_pool() {
    Entry* const entry = last_of_pool;
    const std::uint64_t return_address = entry->return_address;
    last_of_pool = entry->below;
    pool->push(entry);
    return return_address;
}

[[gnu::visibility("hidden"), GENERAL_REGISTERS]] void bench_hijack_take_freelist(std::uint64_t* return_address) {
    Entry* const entry = freelist.pop();
    if (entry == nullptr) return miss(HijackEntries::freelist);
    entry->return_address = *return_address;
    entry->below = last_of_freelist;
    last_of_freelist = entry;
    *return_address = reinterpret_cast<std::uint64_t>(&bench_hijack_return_freelist);
}

[[gnu::visibility("hidden"), GENERAL_REGISTERS]] std::uint64_t bench_hijack_give_freelist() {
    Entry* const entry = last_of_freelist;
    const std::uint64_t return_address = entry->return_address;
    last_of_freelist = entry->below;
    freelist.push(entry);
    return return_address;
}
}

namespace {

constexpr std::array nop = {std::byte{0x0f}, std::byte{0x1f}, std::byte{0x44}, std::byte{0}, std::byte{0}};

using Code = void();
Code* entry_code(HijackEntries entries) {
    switch (entries) {
        case HijackEntries::array:
            return &bench_hijack_array;
        case HijackEntries::pool:
            return &bench_hijack_pool;
        default:
            return &bench_hijack_freelist;
    }
}

std::string make_entries(HijackEntries entries, std::size_t max_active) {
    if (entries == HijackEntries::pool) {
        auto made = Pool::create({.capacity = max_active, .checks = dynfunc::PoolChecks::off});
        if (!made) return made.error().message();
        pool.emplace(*std::move(made));
    }
    if (entries == HijackEntries::freelist) {
        of_freelist = std::vector<Entry>(max_active);
        freelist.entries = of_freelist.data();
        freelist.head = 0;
        for (Entry& entry : of_freelist) freelist.push(&entry);
    }
    return {};
}

}  // namespace

std::expected<std::shared_ptr<HijackPeer>, std::string> HijackPeer::arm(std::span<const Site> sites, HijackEntries entries,
                                                                        std::size_t max_active) {
    for (const Site& site : sites)
        if (std::memcmp(reinterpret_cast<const void*>(site.address()), nop.data(), nop.size()) != 0)
            return std::unexpected("it takes the place of a nop of 5 bytes");
    if (std::string refusal = make_entries(entries, max_active); !refusal.empty()) return std::unexpected(std::move(refusal));
    const std::shared_ptr<HijackPeer> peer(new HijackPeer(sites, entries));
    const auto target = reinterpret_cast<std::uintptr_t>(entry_code(entries));
    for (const Site& site : sites) {
        // Both lie in this program, so they are near.
        const auto distance = static_cast<std::int32_t>(target - (site.address() + nop.size()));
        std::array call = {std::byte{0xe8}, std::byte{}, std::byte{}, std::byte{}, std::byte{}};
        std::memcpy(&call[1], &distance, sizeof distance);
        if (std::string refusal = write_code(site.address(), call); !refusal.empty())
            return std::unexpected(std::move(refusal));
        ++peer->written_;
    }
    return peer;
}

HijackPeer::~HijackPeer() {
    for (std::size_t i = 0; i < written_; ++i) static_cast<void>(write_code(sites_[i].address(), nop));
}

std::uint64_t HijackPeer::missed() const {
    return __atomic_load_n(&missed_by[static_cast<std::size_t>(entries_)], __ATOMIC_RELAXED);
}

}  // namespace bench::probes
