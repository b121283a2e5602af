// SPDX-License-Identifier: MIT
// Writes code of this process through /proc/self/mem, as one write: for peers, on code that no thread runs meanwhile.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "refused.hpp"

namespace bench {

// Empty, or why not.
inline std::string write_code(std::uintptr_t at, std::span<const std::byte> bytes) {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0) return refused("/proc/self/mem");
    std::string refusal;
    if (pwrite(memory, bytes.data(), bytes.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(bytes.size()))
        refusal = refused("writing code through /proc/self/mem");
    close(memory);
    return refusal;
}

}  // namespace bench
