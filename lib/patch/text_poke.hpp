// SPDX-License-Identifier: MIT
// Changes words of code that other threads are running: verify all, write all, publish once.
//
//     bytes before   whatever `expected` says, compared before the first write of the batch
//     bytes after    `replacement`, in the same naturally aligned word
//     order          1. one store per word   2. cache maintenance, where the machine needs it   3. one membarrier SYNC_CORE
//     in between     a thread that runs a word executes its old or its new instruction, never a mix (docs/ordering.md)
#pragma once

#include <cstdint>
#include <span>

#include <dynfunc/result.hpp>

#include "text_writer.hpp"

namespace dynfunc {

// One aligned word of arch::Capabilities::word_bytes; narrower words sit in the low bytes.
struct Poke {
    Address at;
    std::uint64_t expected, replacement;
    std::size_t element;  // for errors: which element of the caller's batch
};

std::uint64_t read_word(Address at) noexcept;

// Threads: the text lock is held around every call.
class TextPoke {
public:
    explicit constexpr TextPoke(TextWriting& writing) noexcept : writing_(writing) {}

    // Errors: bytes_changed, with the address of the first word that differs. Writes nothing.
    static Result<void> verify(std::span<const Poke> batch) noexcept;

    // Writes a verified batch in ascending order of address and returns when every thread executes the new code. Words at most
    // `gap` bytes apart are written in one go, together with what lies between: 0 for code that is not the library's own.
    // Errors: of the writer, sync_failed. Then the old bytes stand again.
    Result<void> commit(std::span<Poke> batch, std::size_t gap) noexcept;

private:
    Result<void> write(std::span<const Poke> ascending, std::size_t gap, std::size_t& written) noexcept;
    void undo(std::span<Poke> written, std::size_t gap) noexcept;

    TextWriting& writing_;
};

}  // namespace dynfunc
