// SPDX-License-Identifier: MIT
// The form of this process: found by trying, once, on code of the library's own.
#pragma once

#include <dynfunc/capabilities.hpp>

#include "text_writer.hpp"

namespace dynfunc {

struct Backend {
    Capabilities capabilities;
    TextWriting* writing;  // null unless capabilities.form is patched
};

// Threads: any; the first caller tries the forms. Takes no lock that is not its own.
const Backend& backend() noexcept;

}  // namespace dynfunc
