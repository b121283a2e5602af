// SPDX-License-Identifier: MIT
#include "text_poke.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "arch.hpp"
#include "fatal.hpp"
#include "os.hpp"

namespace dynfunc {
namespace {

constexpr std::size_t run_limit = 4096;

// How many pokes of `rest` one write takes: neighbours in one page.
std::size_t run_length(std::span<const Poke> rest, std::size_t gap, std::size_t word) noexcept {
    const std::uintptr_t page = rest[0].at.value / run_limit;
    std::size_t length = 1;
    while (length < rest.size() && rest[length].at.value / run_limit == page &&
           static_cast<std::size_t>(rest[length].at - rest[length - 1].at) <= word + gap)
        ++length;
    return length;
}

}  // namespace

std::uint64_t read_word(Address at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at.as<const void*>(), arch::capabilities().word_bytes);
    return word;
}

Result<void> TextPoke::verify(std::span<const Poke> batch) noexcept {
    for (const Poke& poke : batch)
        if (read_word(poke.at) != poke.expected)
            return std::unexpected(Error{.code = Errc::bytes_changed, .address = poke.at, .element = poke.element});
    return {};
}

Result<void> TextPoke::write(std::span<const Poke> ascending, std::size_t gap, std::size_t& written) noexcept {
    const std::size_t word = arch::capabilities().word_bytes;
    std::array<std::byte, run_limit> run;
    for (written = 0; written < ascending.size();) {
        const std::size_t length = run_length(ascending.subspan(written), gap, word);
        const Address begin = ascending[written].at;
        const std::size_t size = static_cast<std::size_t>(ascending[written + length - 1].at - begin) + word;
        if (length > 1) std::memcpy(run.data(), begin.as<const void*>(), size);
        for (std::size_t i = written; i < written + length; ++i)
            std::memcpy(run.data() + (ascending[i].at - begin), &ascending[i].replacement, word);
        if (auto done = writing_.write(begin, std::span(run).first(size)); !done) {
            done.error().element = ascending[written].element;
            return done;
        }
        arch::flush_text({begin, begin + static_cast<std::ptrdiff_t>(size)});
        written += length;
    }
    return {};
}

void TextPoke::undo(std::span<Poke> written, std::size_t gap) noexcept {
    for (Poke& poke : written) std::swap(poke.expected, poke.replacement);
    std::size_t undone = 0;
    if (!write(written, gap, undone)) fatal("code was changed in part, and the system refuses to let it be changed back");
    for (Poke& poke : written) std::swap(poke.expected, poke.replacement);
}

Result<void> TextPoke::commit(std::span<Poke> batch, std::size_t gap) noexcept {
    constexpr auto ascending = [](const Poke& a, const Poke& b) { return a.at < b.at; };
    if (!std::is_sorted(batch.begin(), batch.end(), ascending)) std::sort(batch.begin(), batch.end(), ascending);
    std::size_t written = 0;
    if (auto done = write(batch, gap, written); !done) {
        undo(batch.first(written), gap);
        return done;
    }
    // (F) every core executes a serialising instruction: what it fetches from here on are the new bytes.
    if (const int refused = os::sync_cores(); refused != 0) {
        undo(batch, gap);
        return std::unexpected(Error{.code = Errc::sync_failed, .os_error = refused});
    }
    return {};
}

}  // namespace dynfunc
