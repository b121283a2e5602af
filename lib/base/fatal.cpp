// SPDX-License-Identifier: MIT
#include "fatal.hpp"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace dynfunc {

void fatal(const char* line) noexcept {
    constexpr char prefix[] = "dynfunc: ";
    [[maybe_unused]] auto written = write(STDERR_FILENO, prefix, sizeof prefix - 1);
    written = write(STDERR_FILENO, line, std::strlen(line));
    written = write(STDERR_FILENO, "\n", 1);
    std::abort();
}

}  // namespace dynfunc
