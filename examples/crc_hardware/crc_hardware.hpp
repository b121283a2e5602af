// SPDX-License-Identifier: MIT
// The checksums that crc_dispatch.cpp chooses between. All take and return what zlib's crc32() does, so that the checksum of
// one block is the start of the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

using Bytes = std::span<const std::byte>;

inline constexpr std::uint32_t polynomial = 0xedb88320;  // CRC-32 as in zlib, the lowest bit is the highest power

std::uint32_t crc_table(std::uint32_t crc, Bytes bytes);

// What this CPU has for this polynomial. One file per machine defines it; the build picks the file.
struct Hardware {
    std::uint32_t (*crc)(std::uint32_t crc, Bytes bytes);  // null: nothing
    const char* what;                                      // the instructions, or why there are none
};
Hardware hardware();
