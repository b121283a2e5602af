// SPDX-License-Identifier: MIT
// Stubs of arm64. What all of them do alike is one piece of code (probe_thunks.S); a stub is what has to stand near the probe:
//
//      0  sub  sp, sp, #304              a Registers, and a pair for whoever follows frame pointers; there is no red zone
//      4  stp  x29, x30, [sp, #232]
//      8  stp  x16, x17, [sp, #128]
//     12  ldr  x16, enter
//     16  ldr  x17, site
//     20  blr  x16                       dynfunc_probe_enter: comes back with all others as they are to be
//     24  ldp  x29, x30, [sp, #232]
//     28  ldp  x16, x17, [sp, #128]
//     32  add  sp, sp, #304
//     36  copy, and a branch back
//         brk                            up to a multiple of 16
//         .quad enter, site
//
// blr and the ret of dynfunc_probe_enter are a pair, for the return predictor. Near memory is not guarded (BTI), so the branch
// to a stub may come from anywhere.
#include "probe_stub.hpp"

#include <dynfunc/detail/export.hpp>

#include "arm64/copy.hpp"

// probe_thunks.S
extern "C" {
DYNFUNC_HIDDEN void dynfunc_with_neon(void (*run)(void*, dynfunc::Registers*), void* a, dynfunc::Registers* registers);
DYNFUNC_HIDDEN void dynfunc_probe_enter();
}

namespace dynfunc::arch::arm64 {
namespace {

constexpr std::uint32_t frame_bytes = sizeof(Registers) + 16;

constexpr std::uint32_t sub_sp = 0xd100'03ff | frame_bytes << 10, add_sp = 0x9100'03ff | frame_bytes << 10;
constexpr std::uint32_t blr_x16 = 0xd63f'0200;
// Of two registers, at an offset from sp.
constexpr std::uint32_t pair(std::uint32_t opcode, std::uint32_t first, std::size_t at) noexcept {
    return opcode | static_cast<std::uint32_t>(at / 8) << 15 | (first + 1) << 10 | 31 << 5 | first;
}
constexpr std::uint32_t stp = 0xa900'0000, ldp = 0xa940'0000;

constexpr std::size_t x16_at = offsetof(Registers, x) + 16 * 8, x29_at = offsetof(Registers, x) + 29 * 8;
constexpr std::uint16_t copy_at = 36;

}  // namespace

static_assert(sizeof(Registers) == 288 && offsetof(Registers, sp) == 248 && offsetof(Registers, pc) == 256 &&
              offsetof(Registers, nzcv) == 264 && offsetof(Registers, vectors) == 272 &&
              offsetof(Registers, vector_bytes) == 280);

Result<Stub> encode_stub(const StubRequest& request, Address runs_at, std::span<std::byte> room) noexcept {
    std::array<std::byte, Relocated::most_bytes> measured;
    const auto copy = relocate(*request.displaced, runs_at + copy_at, measured);
    if (!copy) return std::unexpected(copy.error());
    const std::size_t literals = (copy_at + std::size_t{copy->size} + 15) / 16 * 16;

    CodeWriter code(room, runs_at);
    code.put(sub_sp);
    code.put(pair(stp, 29, x29_at));
    code.put(pair(stp, 16, x16_at));
    code.put(load_ahead(16, literals - code.size()));
    code.put(load_ahead(17, literals + 8 - code.size()));
    code.put(blr_x16);
    code.put(pair(ldp, 29, x29_at));
    code.put(pair(ldp, 16, x16_at));
    code.put(add_sp);
    Stub stub;
    stub.copy = static_cast<std::uint16_t>(code.size());
    // Lowered, saved, restored, raised.
    stub.frame = {4, 8, 28, copy_at, 0, 0};
    const auto relocated = put_copy(code, *request.displaced);
    if (!relocated) return std::unexpected(relocated.error());
    stub.relocated = *relocated;
    code.put(std::uint64_t{Address::of(&dynfunc_probe_enter).value});
    code.put(std::uint64_t{request.site.value});
    const auto size = code.finish();
    if (!size) return std::unexpected(size.error());
    stub.size = static_cast<std::uint16_t>(*size);
    return stub;
}

bool has_stubs() noexcept { return true; }

// dynfunc_probe_enter does not come back then.
Address leave_stub() noexcept { return Address::of(&dynfunc_probe_enter); }

WithVectors with_vectors() noexcept { return &dynfunc_with_neon; }

const Breakpoint& breakpoint() noexcept {
    static constexpr Breakpoint brk{.bytes = {std::byte{0}, std::byte{0}, std::byte{0x20}, std::byte{0xd4}}, .size = 4};
    return brk;
}

}  // namespace dynfunc::arch::arm64
