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

// Trampolines lie side by side; far ones are not worth copying what is between.
constexpr std::size_t own_gap = 512;

bool may_join(const Poke& low, const Poke& high, Between between, std::size_t word) noexcept {
    if (low.at.value / run_limit != high.at.value / run_limit) return false;
    const auto distance = static_cast<std::size_t>(high.at - low.at);
    return between == Between::anything || distance <= word ||
           (low.in_own_text && high.in_own_text && distance <= word + own_gap);
}

// How many pokes of `rest` one write takes.
std::size_t run_length(std::span<const Poke> rest, Between between, std::size_t word) noexcept {
    std::size_t length = 1;
    while (length < rest.size() && may_join(rest[length - 1], rest[length], between, word)) ++length;
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

Result<void> TextPoke::write(std::span<const Poke> ascending, Between between, std::size_t& written) noexcept {
    const std::size_t word = arch::capabilities().word_bytes;
    std::array<std::byte, run_limit> run;
    for (written = 0; written < ascending.size();) {
        const std::size_t length = run_length(ascending.subspan(written), between, word);
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

void TextPoke::undo(std::span<Poke> written, Between between) noexcept {
    for (Poke& poke : written) std::swap(poke.expected, poke.replacement);
    std::size_t undone = 0;
    if (!write(written, between, undone)) fatal("code was changed in part, and the system refuses to let it be changed back");
    for (Poke& poke : written) std::swap(poke.expected, poke.replacement);
}

Result<void> TextPoke::commit(std::span<Poke> batch, Between between) noexcept {
    constexpr auto ascending = [](const Poke& a, const Poke& b) { return a.at < b.at; };
    if (!std::is_sorted(batch.begin(), batch.end(), ascending)) std::sort(batch.begin(), batch.end(), ascending);
    std::size_t written = 0;
    if (auto done = write(batch, between, written); !done) {
        undo(batch.first(written), between);
        return done;
    }
    // (F) every core executes a serialising instruction: what it fetches from here on are the new bytes.
    if (const int refused = os::sync_cores(); refused != 0) {
        undo(batch, between);
        return std::unexpected(Error{.code = Errc::sync_failed, .os_error = refused});
    }
    return {};
}

Result<void> TextPoke::write_new(Address at, std::span<const std::byte> code) noexcept {
    for (std::size_t done = 0; done < code.size();) {
        const Address from = at + static_cast<std::ptrdiff_t>(done);
        const std::size_t size = std::min(code.size() - done, run_limit - from.value % run_limit);
        if (auto written = writing_.write(from, code.subspan(done, size)); !written) return written;
        done += size;
    }
    arch::flush_text({at, at + static_cast<std::ptrdiff_t>(code.size())});
    // (F) also for code that is new: a core may have fetched what stood there before.
    if (const int refused = os::sync_cores(); refused != 0)
        return std::unexpected(Error{.code = Errc::sync_failed, .address = at, .os_error = refused});
    return {};
}

}  // namespace dynfunc
