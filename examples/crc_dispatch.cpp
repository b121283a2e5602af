// SPDX-License-Identifier: MIT
// CPU dispatch: the CRC-32 of a file, while another thread keeps switching between three implementations.
//
//     $ crc_dispatch /usr/bin/gcc
//     1301496 bytes, read 33 times, in blocks of 4096
//     switched 1007 times
//       portable       1089 blocks
//       table          1311 blocks
//       hardware       8094 blocks, PCLMULQDQ
//     CRC-32 0x3821612a, zlib says the same
//
// Status 0; 1 if the checksums differ or the file cannot be read, 2 without a file.
//
// A real program would choose once, at start. Switching all the time shows that it may choose whenever it likes: each block is
// served by one implementation or another, never by a mix, and no lock or flag stands in the way of a call.
#include <zlib.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <expected>
#include <memory>
#include <thread>
#include <vector>

#include <dynfunc/dynfunc.hpp>

#include "crc_hardware/crc_hardware.hpp"

// One bit at a time, as the polynomial is defined.
std::uint32_t crc_bitwise(std::uint32_t crc, Bytes bytes) {
    crc = ~crc;
    for (const std::byte b : bytes) {
        crc ^= std::to_integer<std::uint32_t>(b);
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
    }
    return ~crc;
}

// One byte at a time. Method: Sarwate, "Computation of Cyclic Redundancy Checks via Table Look-Up", CACM 31(8), 1988.
std::uint32_t crc_table(std::uint32_t crc, Bytes bytes) {
    static constexpr auto table = [] {
        std::array<std::uint32_t, 256> t{};
        for (std::uint32_t n = 0; n < t.size(); ++n) {
            t[n] = n;
            for (int bit = 0; bit < 8; ++bit) t[n] = (t[n] >> 1) ^ ((t[n] & 1) != 0 ? polynomial : 0);
        }
        return t;
    }();
    crc = ~crc;
    for (const std::byte b : bytes) crc = (crc >> 8) ^ table[(crc ^ std::to_integer<std::uint32_t>(b)) & 0xff];
    return ~crc;
}

// The targets. Only the reading thread runs them, so that plain counters do.
std::array<unsigned long, 3> served{};
const Hardware cpu = hardware();

std::uint32_t portable(std::uint32_t crc, Bytes bytes) { return ++served[0], crc_bitwise(crc, bytes); }
std::uint32_t table(std::uint32_t crc, Bytes bytes) { return ++served[1], crc_table(crc, bytes); }
std::uint32_t by_hardware(std::uint32_t crc, Bytes bytes) { return ++served[2], cpu.crc(crc, bytes); }

DYNFUNC(crc, std::uint32_t(std::uint32_t, Bytes), &portable);

struct Switching {
    std::atomic<unsigned long> times = 0;
    std::atomic<bool> failed = false;
    dynfunc::Error error;
};

void keep_switching(std::stop_token stop, Switching& state) {
    std::vector targets{&portable, &table};
    if (cpu.crc != nullptr) targets.push_back(&by_hardware);
    while (!stop.stop_requested()) {
        const unsigned long n = state.times + 1;
        if (auto done = crc.retarget(targets[n % targets.size()]); !done) {
            state.error = done.error();
            state.failed = true;
            return;
        }
        state.times = n;
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
}

struct Sums {
    unsigned long bytes = 0;
    std::uint32_t ours = 0, zlib = 0;
};

constexpr std::size_t block_size = 4096;

// The whole file once; errno if it cannot be read.
std::expected<Sums, int> read_once(std::FILE* file) {
    Sums sums;
    if (std::fseek(file, 0, SEEK_SET) != 0) return std::unexpected(errno);
    std::array<std::byte, block_size> block;
    while (const std::size_t size = std::fread(block.data(), 1, block.size(), file)) {
        sums.bytes += size;
        sums.ours = crc(sums.ours, Bytes(block.data(), size));  // a direct call to whichever it is at the moment
        sums.zlib =
            static_cast<std::uint32_t>(crc32(sums.zlib, reinterpret_cast<const Bytef*>(block.data()), static_cast<uInt>(size)));
    }
    if (std::ferror(file) != 0) return std::unexpected(errno);
    return sums;
}

int refuse(const char* file, int os_error) {
    std::fprintf(stderr, "crc_dispatch: %s: %s\n", file, std::strerror(os_error));
    return 1;
}

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: crc_dispatch FILE\n", stderr);
        return 2;
    }
    const auto close = [](std::FILE* f) { std::fclose(f); };
    const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(argv[1], "rb"));
    if (!file) return refuse(argv[1], errno);

    // A small file is read again and again, so that every implementation has its turn.
    std::expected<Sums, int> sums;
    unsigned long reads = 0;
    Switching switching;
    {
        const std::jthread switcher(keep_switching, std::ref(switching));
        do {
            sums = read_once(file.get());
            ++reads;
        } while (sums && sums->ours == sums->zlib && switching.times < 1000 && !switching.failed);
    }
    if (!sums) return refuse(argv[1], sums.error());
    if (switching.failed) {
        std::fprintf(stderr, "crc_dispatch: not retargeted: %s\n", switching.error.message().c_str());
        return 1;
    }

    std::printf("%lu bytes, read %lu times, in blocks of %zu\n", sums->bytes, reads, block_size);
    std::printf("switched %lu times\n", switching.times.load());
    std::printf("  portable %10lu blocks\n  table    %10lu blocks\n", served[0], served[1]);
    if (cpu.crc != nullptr)
        std::printf("  hardware %10lu blocks, %s\n", served[2], cpu.what);
    else
        std::printf("  hardware left out: %s\n", cpu.what);
    const bool equal = sums->ours == sums->zlib;
    if (equal)
        std::printf("CRC-32 0x%08x, zlib says the same\n", sums->ours);
    else
        std::printf("CRC-32 0x%08x, but zlib says 0x%08x\n", sums->ours, sums->zlib);
    return equal ? 0 : 1;
}
