// SPDX-License-Identifier: MIT
// What a probe's branch leads to where the function is wrapped.
#include "probe_stub.hpp"

#include "arm64/copy.hpp"

namespace dynfunc::arch::arm64 {

//     movz/movk x<n>, context           or x16, and then: fmov d<n>, x16
//     ldr x16, 8; br x16; .quad entry   (encode_jump_anywhere())
//     copy
Result<Stub> encode_wrap_thunk(const ThunkRequest& request, Address runs_at, std::span<std::byte> room) noexcept {
    constexpr std::uint32_t fmov_from_x16 = 0x9e67'0200;
    CodeWriter code(room, runs_at);
    put_constant(code, request.in_vector_register ? 16 : request.number, request.context.value);
    if (request.in_vector_register) code.put(fmov_from_x16 | request.number);
    code.put(encode_jump_anywhere(code.here(), request.entry));
    code.align(trap);
    Stub stub;
    stub.copy = static_cast<std::uint16_t>(code.size());
    const auto relocated = put_copy(code, *request.displaced);
    if (!relocated) return std::unexpected(relocated.error());
    stub.relocated = *relocated;
    const auto size = code.finish();
    if (!size) return std::unexpected(size.error());
    stub.size = static_cast<std::uint16_t>(*size);
    return stub;
}

}  // namespace dynfunc::arch::arm64
