// SPDX-License-Identifier: MIT
// Memory for code that a jump of limited reach leads to, also where some bits of the jump's distance are given.
//
//     NearMemory memory;
//     auto at = memory.take({.from = site + 5, .given_mask = 0xff, .given = 0xcc}, 64);
//
// Pages come from gaps of the address space, near ones first, and are never put over anything that is there; they are readable
// and executable from the beginning, and zero. (Who writes code into them does it as with all text: text_writer.hpp.)
//
// What others will want stays free: 256 MiB behind the heap, which grows upwards (malloc would go on elsewhere), and 16 MiB
// below the stack of the main thread.
#pragma once

#include <dynfunc/result.hpp>

#include <array>
#include <cstdint>
#include <optional>

#include "scratch.hpp"

namespace dynfunc {

// Where a jump may lead: to `from` + distance, for distances in [least, most] whose bits under `given_mask` are those of
// `given`.
struct Reach {
    Address from;
    std::uint32_t given_mask = 0, given = 0;
    std::int32_t least = INT32_MIN, most = INT32_MAX;

    // The lowest distance that is `lowest` or more; nothing: there is none.
    std::optional<std::int32_t> first_distance(std::int64_t lowest) const noexcept;
};

// Threads: one at a time.  Blocks: in the kernel.
class NearMemory {
public:
    constexpr NearMemory() noexcept = default;
    NearMemory(const NearMemory&) = delete;

    static constexpr std::size_t page_bytes = 4096;  // whatever the system's pages are

    // `bytes` at an address in reach, inside one page of 4 KiB. Stays until release(): threads may be in code for as long as
    // they like, so only who knows that nobody is gives it back. Errors: out_of_reach (address = where the jump counts from):
    // nothing is free there; out_of_memory with errno.
    Result<Address> take(const Reach& reach, std::size_t bytes) noexcept;
    void release(Address at, std::size_t bytes) noexcept;
    // The next request for which nothing is free looks again, for what others have unmapped: some ms where there are thousands
    // of mappings. Those after it do not.
    void look_again() noexcept { gaps_are_recent_ = false; }
    // Whether nobody has any of it. Inside one of its pages.
    bool is_free(AddressRange range) const noexcept;

    // How many pages it has.
    std::size_t pages() const noexcept { return pages_.size(); }
    // In the only thread of a child process, which may have been copied in the middle of take(): everything is forgotten and
    // stays as it is.
    void abandon() noexcept;

private:
    struct Page {
        static constexpr std::size_t bytes = page_bytes;
        std::uint64_t used[bytes / 64];  // a bit for each byte

        // Behind the last byte of [offset, offset + count) that is used; 0: none is.
        std::size_t used_until(std::size_t offset, std::size_t count) const noexcept;
        void mark(std::size_t offset, std::size_t count, bool as_used) noexcept;
    };
    struct PageAt {
        Address at;
        std::size_t page;  // in pages_
        std::uint16_t free_bytes = Page::bytes;
        bool is_for_any;  // mapped for a request with many places to choose from: only such ones get more of it
    };

    std::optional<Address> take_from_pages(const Reach& reach, std::size_t bytes, std::int64_t from) noexcept;
    Result<void> map_page(const Reach& reach, std::size_t bytes) noexcept;
    AddressRange with_neighbours(Address page, std::size_t unit, bool is_for_any) const noexcept;
    Address find_gap(const Reach& reach, std::size_t bytes, std::size_t unit) const noexcept;
    bool read_gaps() noexcept;
    void mark(PageAt& page, std::size_t offset, std::size_t count, bool as_used) noexcept;
    bool add(Address begin, std::size_t bytes, bool is_for_any) noexcept;
    std::size_t pages_up_to(Address at) const noexcept;  // how many do not begin behind `at`

    std::array<Address, 16> last_of_kind_{};  // where the last request of a kind was served
    Scratch<Page> pages_;
    Scratch<PageAt> by_address_;  // ascending
    Scratch<AddressRange> gaps_;  // ascending; what was free when it was last looked at, and is not ours
    bool gaps_are_recent_ = false;
};

}  // namespace dynfunc
