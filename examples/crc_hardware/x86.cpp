// SPDX-License-Identifier: MIT
// CRC-32 with carry-less multiplication. SSE4.2 has a crc32 instruction too, but for another polynomial (Castagnoli's).
//
// Method: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel white paper, 2009:
// 16 bytes that stand n bits before others are replaced by their product with x^n mod P, added to the others; the remainder
// stays the same. Four such sums run side by side. The last 16 bytes go through the table instead of a Barrett reduction.
#include <immintrin.h>

#include "crc_hardware.hpp"

namespace {

// x^n mod P, the lowest bit being x^31.
constexpr std::uint32_t power(unsigned n) {
    std::uint32_t p = 0x80000000;
    while (n-- > 0) p = (p >> 1) ^ ((p & 1) != 0 ? polynomial : 0);
    return p;
}

// The factors that carry 16 bytes forward by `bits`. The first 8 bytes are the low half of a register and 64 powers above the
// others; both lose one power because the product of two bit-reversed numbers stands one bit too low in the register.
[[gnu::target("pclmul")]] __m128i factors(unsigned low, unsigned high) {
    return _mm_set_epi32(static_cast<int>(high), 0, static_cast<int>(low), 0);
}
template <unsigned bits>
[[gnu::target("pclmul")]] __m128i forward() {
    constexpr std::uint32_t low = power(bits + 64 - 1), high = power(bits - 1);
    return factors(low, high);
}

[[gnu::target("pclmul")]] __m128i fold(__m128i sum, __m128i by, __m128i next) {
    const __m128i low = _mm_clmulepi64_si128(sum, by, 0x00), high = _mm_clmulepi64_si128(sum, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

__m128i load(Bytes bytes, std::size_t n) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data()) + n); }

[[gnu::target("pclmul")]] std::uint32_t crc_pclmul(std::uint32_t crc, Bytes bytes) {
    if (bytes.size() < 64) return crc_table(crc, bytes);

    __m128i sum[4] = {load(bytes, 0), load(bytes, 1), load(bytes, 2), load(bytes, 3)};
    sum[0] = _mm_xor_si128(sum[0], _mm_cvtsi32_si128(static_cast<int>(~crc)));
    for (bytes = bytes.subspan(64); bytes.size() >= 64; bytes = bytes.subspan(64))
        for (std::size_t n = 0; n < 4; ++n) sum[n] = fold(sum[n], forward<512>(), load(bytes, n));

    for (std::size_t n = 1; n < 4; ++n) sum[n] = fold(sum[n - 1], forward<128>(), sum[n]);
    for (; bytes.size() >= 16; bytes = bytes.subspan(16)) sum[3] = fold(sum[3], forward<128>(), load(bytes, 0));

    // ~0 is the checksum whose register is zero: the sum holds all that came before.
    return crc_table(crc_table(~std::uint32_t{0}, std::as_bytes(std::span(&sum[3], 1))), bytes);
}

}  // namespace

Hardware hardware() {
    if (!__builtin_cpu_supports("pclmul")) return {nullptr, "this CPU has no PCLMULQDQ"};
    return {&crc_pclmul, "PCLMULQDQ"};
}
