// SPDX-License-Identifier: MIT
// Changes words of code that other threads are running: verify all, write all, publish once.
//
//     bytes before   whatever `expected` says, compared before the first write of the batch
//     bytes after    `replacement`, in the same naturally aligned word
//     order          1. one store per word   2. cache maintenance, where the machine needs it   3. one membarrier SYNC_CORE
//     in between     a thread that runs a word executes its old or its new instruction, never a mix (docs/ordering.md)
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>

#include <dynfunc/result.hpp>

#include "text_writer.hpp"

namespace dynfunc {

// Bytes that are to change together, inside one aligned word of arch::Capabilities::word_bytes. The values are in memory order.
struct Poke {
    Address at;
    std::uint64_t expected, replacement;
    std::size_t element;  // for errors: which element of the caller's batch
    std::uint8_t size;
};

// What may be written back as it was read, to write several words in one go.
enum class Between : std::uint8_t {
    line,      // what lies in the same aligned Capabilities::copied_bytes; in the same page, where the writer stores words
    anything,  // what lies in the same page: in code that nobody runs at this moment, because it is being loaded
};

// bytes_changed, with what stands there.
Error foreign_bytes(Address at, std::size_t element) noexcept;
std::uint64_t read_word(Address at) noexcept;
std::uint64_t read_bytes(Address at, std::size_t size) noexcept;

// Threads: the text lock is held around every call.
class TextPoke {
public:
    explicit constexpr TextPoke(TextWriting& writing) noexcept : writing_(writing) {}

    // Errors: bytes_changed, with the address of the first word that differs. Writes nothing.
    static Result<void> verify(std::span<const Poke> batch) noexcept;

    // Writes a verified batch in ascending order of address and returns when every thread executes the new code. Neighbours in
    // one page are written in one go, together with what lies between, where that is allowed. What lies around the bytes of a
    // poke is written as it is at that moment.
    // Errors: of the writer, sync_failed. Then the old bytes stand again.
    Result<void> commit(std::span<Poke> batch, Between between = Between::line) noexcept;
    // A batch in parts, one after the other, all or none: whoever collects pokes of several kinds that ascend by kind spares a
    // sort.
    Result<void> commit(std::initializer_list<std::span<Poke>> parts, Between between) noexcept;

    // Writes code that no thread can reach yet, and returns when every thread would execute it. `at` is a multiple of 16, so is
    // the size.
    // Errors: as above. What stands there then is undefined.
    Result<void> write_new(Address at, std::span<const std::byte> code) noexcept;
    // The same for a piece of code anywhere inside one page, but without waiting: sync() does it for many.
    Result<void> write_unseen(Address at, std::span<const std::byte> code) noexcept;
    Result<void> sync() noexcept;

private:
    Result<void> write(std::span<const Poke> ascending, Between between, std::size_t& written) noexcept;
    Result<void> write_run(std::span<const Poke> run) noexcept;
    void undo(std::span<Poke> written, Between between) noexcept;

    TextWriting& writing_;
};

}  // namespace dynfunc
