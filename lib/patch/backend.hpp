// SPDX-License-Identifier: MIT
// The form of this process: found by trying, once, on code of the library's own.
#pragma once

#include <dynfunc/call_sites.hpp>
#include <dynfunc/capabilities.hpp>

#include "text_writer.hpp"

namespace dynfunc {

struct Backend {
    Capabilities capabilities;
    TextWriting* writing;       // null unless capabilities.form is patched
    bool strict;                // from the start
    bool probe_cache;           // from the first probe on
    CallSites call_sites;       // at the start
    const char* no_call_sites;  // why none is patched; null if they are
};

// Threads: any; the first caller tries the forms. Takes no lock that is not its own.
const Backend& backend() noexcept;

}  // namespace dynfunc
