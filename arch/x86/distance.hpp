// SPDX-License-Identifier: MIT
// disp32 and rel32: signed, counted from the end of the instruction.
#pragma once

#include <utility>

#include "code_writer.hpp"

namespace dynfunc::arch::x86 {

// If the distance of an instruction that ends `bytes` from here reaches `to`.
inline bool reaches(const CodeWriter& code, Address to, std::ptrdiff_t bytes) noexcept {
    return std::in_range<std::int32_t>(to - (code.here() + bytes));
}
// Of an instruction that ends with it.
inline void put_distance(CodeWriter& code, Address to) noexcept {
    code.put(static_cast<std::uint32_t>(to - (code.here() + 4)));
}

}  // namespace dynfunc::arch::x86
