// SPDX-License-Identifier: MIT
#include <dynfunc/introspect.hpp>

#include <algorithm>
#include <cstdio>
#include <system_error>

#include "backend.hpp"
#include "registry.hpp"

namespace dynfunc {
namespace {

using detail::TrampolineState;

struct StateText {
    Form form;
    const char* reason;
};

StateText describe(TrampolineState state) noexcept {
    switch (state) {
        case TrampolineState::unbound:
            return {Form::pointer, "its key belongs to another copy or version of the library"};
        case TrampolineState::asks_key:
            return {Form::pointer, "this process is to write nothing but keys"};
        case TrampolineState::slot:
            return {Form::slot, "this process cannot patch code, or is not to"};
        case TrampolineState::slot_far:
            return {Form::slot, "the target is out of reach of a direct jump"};
        case TrampolineState::slot_foreign:
            return {Form::slot, "foreign bytes stood in the trampoline"};
        case TrampolineState::slot_refused:
            return {Form::slot, "the trampoline could not be written when its object was loaded"};
        case TrampolineState::patched:
            return {Form::patched, ""};
    }
    return {Form::pointer, "unknown"};
}

FunctionInfo describe(const detail::FunctionKey& key) {
    const auto or_null = [&](void* target) { return target == key.null_target ? Address{} : Address::of(target); };
    FunctionInfo info{.name = key.name,
                      .signature = key.signature,
                      .file = key.file,
                      .line = key.line,
                      .target = or_null(key.target),
                      .default_target = or_null(key.default_target),
                      .form = capabilities().form,
                      .trampolines = {}};
    for (auto* record = key.trampolines; record != nullptr; record = record->next) {
        const StateText text = describe(record->state);
        info.trampolines.push_back({Address::of(record->code), text.form, text.reason});
        info.form = std::max(info.form, text.form);
    }
    return info;
}

}  // namespace

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

std::vector<FunctionInfo> functions() {
    std::vector<FunctionInfo> all;
    Registry::instance().for_each_function([&](const detail::FunctionKey& key) { all.push_back(describe(key)); });
    return all;
}

std::optional<FunctionInfo> find_function(std::string_view name) {
    std::optional<FunctionInfo> found;
    Registry::instance().for_each_function([&](const detail::FunctionKey& key) {
        if (!found && name == key.name) found = describe(key);
    });
    return found;
}

}  // namespace dynfunc
