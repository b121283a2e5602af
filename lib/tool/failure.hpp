// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstring>
#include <string>

namespace dynfunc::tool {

// What cannot be done, in words. Thrown within the command.
struct Failure {
    std::string about, why;
};
[[noreturn]] inline void fail(const std::string& about, const std::string& why) { throw Failure{about, why}; }
[[noreturn]] inline void fail_by_system(const std::string& about) { fail(about, std::strerror(errno)); }

}  // namespace dynfunc::tool
