// SPDX-License-Identifier: MIT
// Code of stubs that is to be written into near memory: many in one go.
#pragma once

#include <dynfunc/result.hpp>

#include <cstddef>
#include <span>
#include <vector>

#include "near_memory.hpp"
#include "text_poke.hpp"

namespace dynfunc {

class NewCode {
public:
    // `at`: taken from near memory, inside one of its pages.  Throws: std::bad_alloc.
    void add(Address at, std::span<const std::byte> code);
    void drop_last() noexcept;
    void clear() noexcept { *this = NewCode(); }

    // Not waiting for anybody (TextPoke::sync). `memory`: what it was taken from; what is free there nobody runs, and it is
    // written as it stands.
    // Errors: of TextPoke.
    Result<void> write(TextPoke& poke, const NearMemory& memory) noexcept;

private:
    struct Piece {
        AddressRange range;
        std::size_t at;  // in bytes_
    };
    std::vector<Piece> pieces_;
    std::vector<std::byte> bytes_;
};

}  // namespace dynfunc
