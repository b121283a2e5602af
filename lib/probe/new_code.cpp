// SPDX-License-Identifier: MIT
#include "new_code.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace dynfunc {

void NewCode::add(Address at, std::span<const std::byte> code) {
    pieces_.push_back({{at, at + static_cast<std::ptrdiff_t>(code.size())}, bytes_.size()});
    bytes_.insert(bytes_.end(), code.begin(), code.end());
}

void NewCode::drop_last() noexcept {
    bytes_.resize(pieces_.back().at);
    pieces_.pop_back();
}

Result<void> NewCode::write(TextPoke& poke, const NearMemory& memory) noexcept {
    const auto page_of = [](Address at) { return at.value / NearMemory::page_bytes; };
    std::ranges::sort(pieces_, {}, [](const Piece& piece) { return piece.range.begin; });
    std::array<std::byte, NearMemory::page_bytes> bytes;
    for (auto next = pieces_.begin(); next != pieces_.end();) {
        const Address begin = next->range.begin;
        Address end = begin;
        do {
            std::memcpy(bytes.data() + (end - begin), end.as<const void*>(), static_cast<std::size_t>(next->range.begin - end));
            std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(next->at), next->range.size(),
                        bytes.begin() + (next->range.begin - begin));
            end = next++->range.end;
        } while (next != pieces_.end() && page_of(next->range.begin) == page_of(begin) &&
                 memory.is_free({end, next->range.begin}));
        if (auto done = poke.write_unseen(begin, std::span(bytes).first(static_cast<std::size_t>(end - begin))); !done)
            return done;
    }
    return {};
}

}  // namespace dynfunc
