// SPDX-License-Identifier: MIT
// What the values of snapshots are called, and the form of this process in one line.
#include <dynfunc/call_sites.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/strict_updates.hpp>

#include <cstdio>
#include <system_error>

#include "backend.hpp"

namespace dynfunc {

const char* to_string(CallSites when) noexcept {
    switch (when) {
        case CallSites::never:
            return "never";
        case CallSites::on_change:
            return "on change";
        case CallSites::always:
            return "always";
    }
    return "unknown";
}

const char* to_string(Delivery delivery) noexcept {
    switch (delivery) {
        case Delivery::off:
            return "off";
        case Delivery::direct:
            return "direct";
        case Delivery::function:
            return "function";
        case Delivery::generated:
            return "generated";
        case Delivery::iterator:
            return "iterator";
    }
    return "unknown";
}

const char* to_string(Form form) noexcept {
    switch (form) {
        case Form::patched:
            return "patched";
        case Form::slot:
            return "slot";
        case Form::pointer:
            return "pointer";
    }
    return "unknown";
}

const char* to_string(TextWriter writer) noexcept {
    switch (writer) {
        case TextWriter::none:
            return "none";
        case TextWriter::process_memory:
            return "process_memory";
        case TextWriter::memory_file:
            return "memory_file";
    }
    return "unknown";
}

const Capabilities& capabilities() noexcept { return backend().capabilities; }

std::string Capabilities::text() const {
    std::string text = form == Form::patched ? "patched text, written through "
                       : form == Form::slot  ? "pointer slots"
                                             : "the key's pointer";
    if (writer == TextWriter::process_memory) text += "/proc/self/mem";
    if (writer == TextWriter::memory_file) text += "a memory file";
    if (updates_are_strict()) text += ", in strict updates";
    const char* separator = ": ";
    for (const Refusal& refusal : refusals) {
        text += separator;
        text += refusal.what;
        if (refusal.os_error != 0) {
            char number[24];
            std::snprintf(number, sizeof number, " (errno %d)", refusal.os_error);
            text += ": " + std::generic_category().message(refusal.os_error) + number;
        }
        separator = "; ";
    }
    return text;
}

}  // namespace dynfunc
