// SPDX-License-Identifier: MIT
#include "near_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>
#include <string_view>
#include <utility>

#include "os.hpp"
#include "read_lines.hpp"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000  // Linux 4.17
#endif

namespace dynfunc {
namespace {

constexpr Address lowest{std::uintptr_t{1} << 20};                // below lie what null pointers reach, and vm.mmap_min_addr
constexpr std::uintptr_t not_of_users = std::uintptr_t{1} << 63;  // the kernel's half: x86 lists its vsyscall page
constexpr std::size_t behind_heap = std::size_t{256} << 20, below_stack = std::size_t{16} << 20;

// Whether a page is as good as the next one. What has few places to choose from must not find them full of what could be
// anywhere.
bool may_be_anywhere(const Reach& reach) noexcept { return reach.given_mask >> 12 == 0; }

// Which bytes of the distance are given: requests of a kind find their places in the same pages.
std::size_t kind_of(const Reach& reach) noexcept {
    std::size_t kind = 0;
    for (std::size_t i = 0; i < 4; ++i)
        if ((reach.given_mask >> (8 * i) & 0xff) != 0) kind |= std::size_t{1} << i;
    return kind;
}

Address rounded_down(Address at, std::size_t to) noexcept { return Address{at.value & ~(to - 1)}; }

// Of a word of bits: those of [begin, end), which is not empty and lies inside of it.
constexpr std::size_t word_bits = 64;
std::uint64_t bits(std::size_t begin, std::size_t end) noexcept {
    return ~std::uint64_t{0} >> (word_bits - (end - begin)) << (begin % word_bits);
}

}  // namespace

// The smallest number whose bits under the mask are given, from a smallest one on: at the highest bit that differs either the
// number grows by the given bit, and everything below is as small as can be; or the lowest free zero above it is set.
std::optional<std::int32_t> Reach::first_distance(std::int64_t from_here) const noexcept {
    constexpr std::uint32_t sign = std::uint32_t{1} << 31;  // flipped, so that numbers without sign have the same order
    const std::int64_t start = std::max<std::int64_t>(from_here, least);
    if (start > most) return std::nullopt;
    std::uint32_t x = static_cast<std::uint32_t>(start) ^ sign;
    const std::uint32_t wanted = given ^ (given_mask & sign);
    if (const std::uint32_t differs = (x ^ wanted) & given_mask; differs != 0) {
        const int top = 31 - std::countl_zero(differs);
        int raised = top;
        if ((wanted >> top & 1) == 0) {
            while (++raised < 32 && (((given_mask | x) >> raised & 1) != 0)) {
            }
            if (raised == 32) return std::nullopt;
            x |= std::uint32_t{1} << raised;
        }
        const std::uint32_t below = (std::uint32_t{1} << raised) - 1;
        x = (x & ~below & ~given_mask) | wanted;
        x = (x & ~(below & ~given_mask));
    }
    const auto distance = static_cast<std::int32_t>(x ^ sign);
    if (distance > most) return std::nullopt;
    return distance;
}

std::size_t NearMemory::Page::used_until(std::size_t offset, std::size_t count) const noexcept {
    std::size_t end = offset + count;
    for (;;) {
        // The last one that is used in the word that ends the range.
        const std::size_t begin = std::max(offset, (end - 1) / word_bits * word_bits);
        if (const std::uint64_t found = used[begin / word_bits] & bits(begin, end); found != 0) {
            end = begin / word_bits * word_bits + word_bits - static_cast<std::size_t>(std::countl_zero(found));
            break;
        }
        if (begin == offset) return 0;
        end = begin;
    }
    // And on to where something is free again.
    while (end < bytes) {
        const std::uint64_t free = ~(used[end / word_bits] >> (end % word_bits));
        const auto run = std::min(static_cast<std::size_t>(std::countr_zero(free)), word_bits - end % word_bits);
        if (run == 0) break;
        end += run;
    }
    return end;
}

void NearMemory::Page::mark(std::size_t offset, std::size_t count, bool as_used) noexcept {
    for (std::size_t end = offset + count; offset < end;) {
        const std::size_t until = std::min(end, offset / word_bits * word_bits + word_bits);
        std::uint64_t& word = used[offset / word_bits];
        word = as_used ? word | bits(offset, until) : word & ~bits(offset, until);
        offset = until;
    }
}

void NearMemory::mark(PageAt& page, std::size_t offset, std::size_t count, bool as_used) noexcept {
    page.free_bytes = static_cast<std::uint16_t>(as_used ? page.free_bytes - count : page.free_bytes + count);
    pages_.begin()[page.page].mark(offset, count, as_used);
}

std::size_t NearMemory::pages_up_to(Address at) const noexcept {
    const PageAt* const behind = std::upper_bound(by_address_.begin(), by_address_.end(), at,
                                                  [](Address wanted, const PageAt& page) { return wanted < page.at; });
    return static_cast<std::size_t>(behind - by_address_.begin());
}

// From the lowest page in reach on. A distance that fits no page leads to the next page, a page that has no such distance to
// the next distance.
std::optional<Address> NearMemory::take_from_pages(const Reach& reach, std::size_t bytes, std::int64_t from) noexcept {
    constexpr std::ptrdiff_t size = Page::bytes;
    PageAt* place = nullptr;
    for (;;) {
        const auto distance = reach.first_distance(from);
        if (!distance) return std::nullopt;
        const Address at = reach.from + *distance;
        if (place == nullptr || at >= place->at + size) {
            const std::size_t behind = pages_up_to(at);
            const bool is_in_page = behind != 0 && at < by_address_.begin()[behind - 1].at + size;
            PageAt* const next = by_address_.begin() + (is_in_page ? behind - 1 : behind);
            place = std::find_if(next, by_address_.end(), [bytes, anywhere = may_be_anywhere(reach)](const PageAt& each) {
                return each.free_bytes >= bytes && (each.is_for_any || !anywhere);
            });
            if (place == by_address_.end()) return std::nullopt;
            if (place->at > at) {
                from = place->at - reach.from;
                place = nullptr;
                continue;
            }
        }
        const auto offset = static_cast<std::size_t>(at - place->at);
        if (offset + bytes > Page::bytes) {
            from = *distance + static_cast<std::int64_t>(Page::bytes - offset);
        } else if (const std::size_t until = pages_.begin()[place->page].used_until(offset, bytes); until != 0) {
            from = *distance + static_cast<std::int64_t>(until - offset);
        } else {
            mark(*place, offset, bytes, true);
            return at;
        }
    }
}

// What /proc/self/maps leaves free. User space ends at a power of two, which machines and kernels choose, and the stack lies
// right below it; so the end is what the last mapping tells (x86-64: 2^47, arm64: 2^39, 2^42, 2^47 or 2^48).
bool NearMemory::read_gaps() noexcept {
    gaps_.clear();
    Address free_from = lowest, last_end = lowest;
    bool fits = true;
    const auto gap = [&](Address begin, Address end) {
        if (begin < end) fits = gaps_.push_back({begin, end}) && fits;
    };
    const bool read = os::read_lines("/proc/self/maps", [&](std::string_view line) {
        const auto mapped = os::mapping_of(line);
        if (!mapped || mapped->begin.value >= not_of_users) return;
        const bool is_stack = line.ends_with("[stack]"), is_heap = line.ends_with("[heap]");
        gap(free_from, mapped->begin);
        if (is_stack) {
            // A guard may lie in between.
            const Address kept = mapped->begin - static_cast<std::ptrdiff_t>(below_stack);
            while (!gaps_.empty() && gaps_.end()[-1].end > kept) {
                if (gaps_.end()[-1].begin < kept)
                    gaps_.end()[-1].end = kept;
                else
                    gaps_.truncate(gaps_.size() - 1);
            }
        }
        last_end = mapped->end;
        free_from = mapped->end + static_cast<std::ptrdiff_t>(is_heap ? behind_heap : 0);
    });
    gap(free_from, Address{std::bit_ceil(last_end.value)});
    gaps_are_recent_ = read && fits;
    return gaps_are_recent_;
}

// The nearest place in a gap; null: there is none.
Address NearMemory::find_gap(const Reach& reach, std::size_t bytes, std::size_t unit) const noexcept {
    Address best;
    std::int64_t best_distance = std::numeric_limits<std::int64_t>::max();
    // Whether there is a place between two distances, from the first on.
    const auto consider = [&](std::int64_t from, std::int64_t last) {
        for (int tries = 0; tries < 4; ++tries) {
            const auto distance = reach.first_distance(from);
            if (!distance || *distance + static_cast<std::int64_t>(bytes) > last) return false;
            const Address at = reach.from + *distance;
            const std::size_t room = Page::bytes - at.value % Page::bytes;
            if (room < bytes) {
                from = *distance + static_cast<std::int64_t>(room);
                continue;
            }
            const std::int64_t far = *distance < 0 ? -std::int64_t{*distance} : std::int64_t{*distance};
            if (far < best_distance) {
                best_distance = far;
                best = at;
            }
            return true;
        }
        return false;
    };
    const auto limits = [&](const AddressRange& gap) {
        const Address begin{(gap.begin.value + unit - 1) & ~(unit - 1)}, end = rounded_down(gap.end, unit);
        return std::pair{begin - reach.from, std::max(begin, end) - reach.from};
    };
    // Ahead: the first one of the nearest gap that has any. Behind: the last ones of a gap, from ever further back.
    const AddressRange* const here = std::lower_bound(gaps_.begin(), gaps_.end(), reach.from,
                                                      [](const AddressRange& gap, Address at) { return gap.end <= at; });
    for (const AddressRange* gap = here; gap != gaps_.end(); ++gap) {
        const auto [first, last] = limits(*gap);
        if (first > reach.most || consider(std::max<std::int64_t>(first, 0), last)) break;
    }
    for (const AddressRange* gap = here == gaps_.end() ? here : here + 1; gap != gaps_.begin();) {
        const auto [first, last] = limits(*--gap);
        if (first >= 0) continue;
        const std::int64_t end_behind = std::min<std::int64_t>(last, 0);
        if (end_behind < reach.least) break;
        bool found = false;
        for (std::int64_t back = static_cast<std::int64_t>(unit); !found; back *= 2) {
            const std::int64_t from = std::max(end_behind - back, first);
            found = consider(from, last);
            if (from == first) break;
        }
        if (found) break;
    }
    return best;
}

bool NearMemory::add(Address begin, std::size_t bytes, bool is_for_any) noexcept {
    const std::size_t count = bytes / Page::bytes;
    if (!pages_.reserve(pages_.size() + count) || !by_address_.reserve(by_address_.size() + count)) return false;
    const std::size_t index = pages_up_to(begin);
    for (std::size_t i = 0; i < count; ++i) {
        static_cast<void>(by_address_.push_back(
            {.at = begin + static_cast<std::ptrdiff_t>(i * Page::bytes), .page = pages_.size(), .is_for_any = is_for_any}));
        static_cast<void>(pages_.push_back(Page{}));
    }
    std::rotate(by_address_.begin() + index, by_address_.end() - count, by_address_.end());
    // What was one gap is two.
    const Address end = begin + static_cast<std::ptrdiff_t>(bytes);
    for (std::size_t i = 0; i < gaps_.size(); ++i) {
        AddressRange& gap = gaps_.begin()[i];
        if (!gap.contains(begin)) continue;
        const AddressRange behind{end, gap.end};
        gap.end = begin;
        if (gaps_.push_back(behind))
            std::rotate(gaps_.begin() + i + 1, gaps_.end() - 1, gaps_.end());
        else
            gaps_.clear();  // read again when needed
        break;
    }
    return true;
}

// More of the same gap, the more there are already: where a page serves as well as the next one, others will be wanted.
AddressRange NearMemory::with_neighbours(Address page, std::size_t unit, bool is_for_any) const noexcept {
    AddressRange range{page, page + static_cast<std::ptrdiff_t>(unit)};
    constexpr std::size_t most = 64 << 10;
    const std::size_t wanted = std::min(most, pages_.size() / 4 * Page::bytes) & ~(unit - 1);
    const auto* const gap = std::find_if(gaps_.begin(), gaps_.end(), [page](AddressRange each) { return each.contains(page); });
    if (!is_for_any || gap == gaps_.end() || wanted <= unit) return range;
    const Address end = rounded_down(gap->end, unit),
                  begin = rounded_down(gap->begin + static_cast<std::ptrdiff_t>(unit - 1), unit);
    range.end = std::min(end, page + static_cast<std::ptrdiff_t>(wanted));
    range.begin = std::max(begin, std::min(page, range.end - static_cast<std::ptrdiff_t>(wanted)));
    return range;
}

Result<void> NearMemory::map_page(const Reach& reach, std::size_t bytes) noexcept {
    const auto refused = [](Errc code, Address at, int os_error) {
        return std::unexpected(Error{.code = code, .address = at, .os_error = os_error});
    };
    const std::size_t unit = std::max(os::page_size(), Page::bytes);
    // What was free may have been taken by others; then look again. And, once for many requests, where nothing is found.
    constexpr int attempts = 4;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        if ((attempt != 0 || gaps_.empty()) && !read_gaps()) return refused(Errc::out_of_memory, reach.from, errno);
        const Address at = find_gap(reach, bytes, unit);
        if (!at && gaps_are_recent_) break;
        if (!at) continue;
        const AddressRange range = with_neighbours(rounded_down(at, unit), unit, may_be_anywhere(reach));
        void* const mapped = mmap(range.begin.as<void*>(), range.size(), PROT_READ | PROT_EXEC,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (mapped == MAP_FAILED && errno == EEXIST) continue;
        if (mapped == MAP_FAILED) return refused(Errc::out_of_memory, range.begin, errno);
        // Not on kernels that do not know the flag, where somebody else is.
        const bool is_there = mapped == range.begin.as<void*>();
        if (is_there && add(range.begin, range.size(), may_be_anywhere(reach))) return {};
        munmap(mapped, range.size());
        if (is_there) return refused(Errc::out_of_memory, range.begin, ENOMEM);
    }
    return refused(Errc::out_of_reach, reach.from, 0);
}

Result<Address> NearMemory::take(const Reach& asked, std::size_t bytes) noexcept {
    const os::KeepErrno keep;
    // From low addresses, where programs that are not position-independent lie, it reaches below 0: that would wrap to the top.
    Reach reach = asked;
    reach.least = static_cast<std::int32_t>(std::max<std::int64_t>(asked.least, -static_cast<std::int64_t>(asked.from.value)));
    // Goes on where the last one of its kind was: the pages before are full, or nearly.
    Address& last = last_of_kind_[kind_of(reach)];
    const std::int64_t behind_last = last - reach.from;
    if (last && reach.least < behind_last && behind_last <= reach.most)
        if (const auto at = take_from_pages(reach, bytes, behind_last)) return *(last = *at, at);
    auto at = take_from_pages(reach, bytes, reach.least);
    if (!at) {
        if (auto mapped = map_page(reach, bytes); !mapped) return std::unexpected(mapped.error());
        at = take_from_pages(reach, bytes, reach.least);
    }
    if (at) return *(last = *at, at);
    return std::unexpected(Error{.code = Errc::out_of_reach, .address = reach.from});
}

void NearMemory::release(Address at, std::size_t bytes) noexcept {
    PageAt& page = by_address_.begin()[pages_up_to(at) - 1];
    mark(page, static_cast<std::size_t>(at - page.at), bytes, false);
}

bool NearMemory::is_free(AddressRange range) const noexcept {
    if (range.size() == 0) return true;
    const PageAt& page = by_address_.begin()[pages_up_to(range.begin) - 1];
    return pages_.begin()[page.page].used_until(static_cast<std::size_t>(range.begin - page.at), range.size()) == 0;
}

void NearMemory::abandon() noexcept {
    last_of_kind_.fill({});
    pages_.abandon();
    by_address_.abandon();
    gaps_.abandon();
    gaps_are_recent_ = false;
}

}  // namespace dynfunc
