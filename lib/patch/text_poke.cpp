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

AddressRange words_of(Address at, std::size_t size) noexcept {
    const std::size_t word = arch::capabilities().word_bytes;
    return {Address{at.value & ~(word - 1)}, Address{(at.value + size + word - 1) & ~(word - 1)}};
}
AddressRange words_of(const Poke& poke) noexcept { return words_of(poke.at, poke.size); }

bool may_join(const Poke& low, const Poke& high, Between between) noexcept {
    const std::size_t limit = between == Between::anything ? run_limit : arch::capabilities().copied_bytes;
    return low.at.value / limit == high.at.value / limit;
}

// How many pokes of `rest` one write takes.
std::size_t run_length(std::span<const Poke> rest, Between between) noexcept {
    std::size_t length = 1;
    while (length < rest.size() && may_join(rest[length - 1], rest[length], between)) ++length;
    return length;
}

}  // namespace

std::uint64_t read_bytes(Address at, std::size_t size) noexcept {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, at.as<const void*>(), size);
    return bytes;
}

Error foreign_bytes(Address at, std::size_t element) noexcept {
    Error error{.code = Errc::bytes_changed, .address = at, .element = element};
    const auto end = words_of(at, 1).end;  // of the word: what is behind it may not be mapped
    error.code_size = static_cast<std::uint8_t>(end - at);
    std::memcpy(error.code_bytes.data(), at.as<const void*>(), error.code_size);
    return error;
}

std::uint64_t read_word(Address at) noexcept { return read_bytes(at, arch::capabilities().word_bytes); }

Result<void> TextPoke::verify(std::span<const Poke> batch) noexcept {
    for (const Poke& poke : batch)
        if (read_bytes(poke.at, poke.size) != poke.expected) return std::unexpected(foreign_bytes(poke.at, poke.element));
    return {};
}

Result<void> TextPoke::write_run(std::span<const Poke> run) noexcept {
    std::array<std::byte, run_limit> bytes;
    const AddressRange range{words_of(run.front()).begin, words_of(run.back()).end};
    std::memcpy(bytes.data(), range.begin.as<const void*>(), range.size());
    for (const Poke& poke : run) std::memcpy(bytes.data() + (poke.at - range.begin), &poke.replacement, poke.size);
    if (auto done = writing_.write(range.begin, std::span(bytes).first(range.size())); !done) {
        done.error().element = run.front().element;
        return done;
    }
    arch::flush_text(range);
    return {};
}

Result<void> TextPoke::write(std::span<const Poke> ascending, Between between, std::size_t& written) noexcept {
    if (writing_.stores_words()) between = Between::anything;
    for (written = 0; written < ascending.size();) {
        const std::size_t length = run_length(ascending.subspan(written), between);
        if (auto done = write_run(ascending.subspan(written, length)); !done) return done;
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

Result<void> TextPoke::commit(std::span<Poke> batch, Between between) noexcept { return commit({batch}, between); }

Result<void> TextPoke::commit(std::initializer_list<std::span<Poke>> parts, Between between) noexcept {
    constexpr auto ascending = [](const Poke& a, const Poke& b) { return a.at < b.at; };
    const auto undo_parts = [&](const std::span<Poke>* end) {
        for (const auto* part = parts.begin(); part != end; ++part) undo(*part, between);
    };
    for (const auto* part = parts.begin(); part != parts.end(); ++part) {
        if (!std::is_sorted(part->begin(), part->end(), ascending)) std::sort(part->begin(), part->end(), ascending);
        std::size_t written = 0;
        if (auto done = write(*part, between, written); !done) {
            undo(part->first(written), between);
            undo_parts(part);
            return done;
        }
    }
    auto synced = sync();
    if (!synced) undo_parts(parts.end());
    return synced;
}

// (F) every core executes a serialising instruction: what it fetches from here on are the new bytes. Also for code that is new:
// a core may have fetched what stood there before.
Result<void> TextPoke::sync() noexcept {
    const int refused = os::sync_cores();
    if (refused == 0) return {};
    return std::unexpected(Error{.code = Errc::sync_failed, .os_error = refused});
}

Result<void> TextPoke::write_new(Address at, std::span<const std::byte> code) noexcept {
    for (std::size_t done = 0; done < code.size();) {
        const Address from = at + static_cast<std::ptrdiff_t>(done);
        const std::size_t size = std::min(code.size() - done, run_limit - from.value % run_limit);
        if (auto written = writing_.write(from, code.subspan(done, size)); !written) return written;
        done += size;
    }
    arch::flush_text({at, at + static_cast<std::ptrdiff_t>(code.size())});
    return sync();
}

Result<void> TextPoke::write_unseen(Address at, std::span<const std::byte> code) noexcept {
    const AddressRange range = words_of(at, code.size());
    std::array<std::byte, run_limit> bytes;
    std::memcpy(bytes.data(), range.begin.as<const void*>(), range.size());
    std::ranges::copy(code, bytes.begin() + (at - range.begin));
    if (auto done = writing_.write(range.begin, std::span(bytes).first(range.size())); !done) return done;
    arch::flush_text(range);
    return {};
}

}  // namespace dynfunc
