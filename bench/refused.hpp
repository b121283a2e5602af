// SPDX-License-Identifier: MIT
// What a refused system call says.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>

namespace bench {

// "memfd_create: Operation not permitted (errno 1)", of the call that has just been refused.
inline std::string refused(const std::string& call) {
    const int error = errno;
    return call + ": " + std::strerror(error) + " (errno " + std::to_string(error) + ")";
}

}  // namespace bench
