// SPDX-License-Identifier: MIT
// Machine code on its way into a room that may be too small.
//
//     code.put(std::uint8_t{0xc3});
//     code.align(std::uint8_t{0xcc});
//     return code.finish();
//
// What does not fit is counted and not written: no instruction has an error path of its own, the end tells for all. Without any
// room, code is only measured.
#pragma once

#include <algorithm>
#include <concepts>

#include "arch.hpp"

namespace dynfunc::arch {

class CodeWriter {
public:
    static constexpr std::size_t alignment = 16;

    CodeWriter(std::span<std::byte> room, Address runs_at) noexcept : room_(room), runs_at_(runs_at) {}

    // Where the next byte will be executed.
    Address here() const noexcept { return runs_at_ + static_cast<std::ptrdiff_t>(size_); }
    std::size_t size() const noexcept { return size_; }

    void put(std::span<const std::byte> bytes) noexcept {
        if (size_ <= room_.size() && bytes.size() <= room_.size() - size_)
            std::copy(bytes.begin(), bytes.end(), room_.begin() + static_cast<std::ptrdiff_t>(size_));
        size_ += bytes.size();
    }
    // Little-endian on every host.
    template <std::unsigned_integral T>
    void put(T value) noexcept {
        std::array<std::byte, sizeof value> bytes;
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
        put(std::span<const std::byte>(bytes));
    }
    // Up to the next multiple of `alignment`.
    template <std::unsigned_integral T>
    void align(T trap) noexcept {
        while (size_ % alignment != 0) put(trap);
    }

    // How many bytes were put, if all of them found room.
    Result<std::size_t> finish() const noexcept {
        if (size_ > room_.size()) return std::unexpected(Error{.code = Errc::out_of_memory, .address = runs_at_});
        return size_;
    }

private:
    std::span<std::byte> room_;
    Address runs_at_;
    std::size_t size_ = 0;
};

}  // namespace dynfunc::arch
