// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

namespace dynfunc::tool {

// An open file, closed at the end; negative: none.
struct File {
    int number;
    explicit File(int opened) noexcept : number(opened) {}
    File(const File&) = delete;
    ~File() {
        if (number >= 0) close(number);
    }
};

}  // namespace dynfunc::tool
