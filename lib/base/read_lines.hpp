// SPDX-License-Identifier: MIT
// What the kernel tells of this process in files of /proc, line by line, without malloc.
//
//     os::read_lines("/proc/self/maps", [](std::string_view line) {
//         if (const auto mapping = os::mapping_of(line)) ...
//     });
#pragma once

#include <dynfunc/address.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

namespace dynfunc::os {

// Calls line(text) for each. False: the file cannot be read, or not to its end.
template <class Line>
bool read_lines(const char* path, Line&& line) noexcept {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    char buffer[8192];
    std::size_t filled = 0;
    for (;;) {
        const ssize_t count = read(file, buffer + filled, sizeof buffer - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            close(file);
            return count == 0;
        }
        filled += static_cast<std::size_t>(count);
        std::size_t begin = 0;
        while (const void* end = std::memchr(buffer + begin, '\n', filled - begin)) {
            const auto length = static_cast<std::size_t>(static_cast<const char*>(end) - (buffer + begin));
            line(std::string_view(buffer + begin, length));
            begin += length + 1;
        }
        if (begin == 0 && filled == sizeof buffer)
            filled = 0;  // a path longer than the buffer: the rest of the line is garbage
        std::memmove(buffer, buffer + begin, filled - begin);
        filled -= begin;
    }
}

// A line of maps, and the first line of each mapping in smaps, begins with its addresses; nothing: another line.
inline std::optional<AddressRange> mapping_of(std::string_view line) noexcept {
    std::uintptr_t begin = 0, end = 0;
    const char* const text_end = line.data() + line.size();
    const auto dash = std::from_chars(line.data(), text_end, begin, 16);
    if (dash.ec != std::errc{} || dash.ptr == text_end || *dash.ptr != '-') return std::nullopt;
    if (std::from_chars(dash.ptr + 1, text_end, end, 16).ec != std::errc{}) return std::nullopt;
    return AddressRange{Address{begin}, Address{end}};
}

}  // namespace dynfunc::os
