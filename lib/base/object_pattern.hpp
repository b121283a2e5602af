// SPDX-License-Identifier: MIT
// Which objects a pattern of a user's is about.
#pragma once

#include <fnmatch.h>

#include <string>

namespace dynfunc {

// fnmatch(3), of the file name, or of the whole path if there is a / in the pattern.
inline bool matches_object(const std::string& pattern, const std::string& path) noexcept {
    const std::size_t slash = path.rfind('/');
    const bool whole = slash == path.npos || pattern.find('/') != pattern.npos;
    return fnmatch(pattern.c_str(), path.c_str() + (whole ? 0 : slash + 1), 0) == 0;
}

}  // namespace dynfunc
