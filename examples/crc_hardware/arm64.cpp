// SPDX-License-Identifier: MIT
// CRC-32 with the instructions CRC32B and CRC32X, which have zlib's polynomial (Arm Architecture Reference Manual, C6.2).
#include <arm_acle.h>
#include <sys/auxv.h>

#include <cstring>

#include "crc_hardware.hpp"

namespace {

[[gnu::target("+crc")]] std::uint32_t crc_instructions(std::uint32_t crc, Bytes bytes) {
    crc = ~crc;
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
        std::uint64_t eight;
        std::memcpy(&eight, bytes.data(), 8);
        crc = __crc32d(crc, eight);
    }
    for (const std::byte b : bytes) crc = __crc32b(crc, std::to_integer<std::uint8_t>(b));
    return ~crc;
}

}  // namespace

Hardware hardware() {
    constexpr unsigned long has_crc32 = 1UL << 7;  // HWCAP_CRC32 of <asm/hwcap.h>
    if ((getauxval(AT_HWCAP) & has_crc32) == 0) return {nullptr, "this CPU has no CRC32 instructions"};
    return {&crc_instructions, "CRC32X"};
}
