// SPDX-License-Identifier: MIT
// What stubs and thunks have in common.
#pragma once

#include "arm64/words.hpp"
#include "relocate.hpp"

namespace dynfunc::arch::arm64 {

// The copy behind a stub's or a thunk's own code, up to a multiple of 16.
inline Result<Relocated> put_copy(CodeWriter& code, const Displaced& displaced) noexcept {
    std::array<std::byte, Relocated::most_bytes> copied;
    const auto relocated = relocate(displaced, code.here(), copied);
    if (!relocated) return relocated;
    code.put(std::span<const std::byte>(copied).first(relocated->size));
    code.align(trap);
    return relocated;
}

}  // namespace dynfunc::arch::arm64
