// SPDX-License-Identifier: MIT
#include <dynfunc/introspect.hpp>

#include <fnmatch.h>

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
    const auto or_null = [&](void* target) { return target == key.jump.null_target ? Address{} : Address::of(target); };
    FunctionInfo info{.name = key.identity.name,
                      .signature = key.identity.signature,
                      .file = key.identity.file,
                      .line = key.identity.line,
                      .target = or_null(key.jump.target),
                      .default_target = or_null(key.default_target),
                      .form = capabilities().form,
                      .trampolines = {}};
    for (auto* record = key.jump.trampolines; record != nullptr; record = record->next) {
        const StateText text = describe(record->state);
        info.trampolines.push_back({Address::of(record->code), text.form, text.reason});
        info.form = std::max(info.form, text.form);
    }
    return info;
}

const char* reason(detail::BranchState state) noexcept {
    switch (state) {
        case detail::BranchState::unbound:
            return "its key belongs to another copy or version of the library";
        case detail::BranchState::tests:
            return "this process cannot patch code, or is not to";
        case detail::BranchState::foreign:
            return "foreign bytes stood at the site";
        case detail::BranchState::refused:
            return "the site could not be written when its object was loaded";
        case detail::BranchState::patched:
            return "";
    }
    return "unknown";
}

SiteCounts describe(const detail::BranchKey& key) noexcept {
    SiteCounts counts{0, 0, ""};
    for (const auto* record = key.sites; record != nullptr; record = record->next) {
        ++counts.sites;
        if (record->state == detail::BranchState::patched)
            ++counts.patched;
        else
            counts.reason = reason(record->state);
    }
    return counts;
}

StaticKeyInfo describe(const detail::StaticKeyData& key) {
    return {.name = key.identity.name,
            .file = key.identity.file,
            .line = key.identity.line,
            .enabled = key.branch.enabled != 0,
            .count = key.count,
            .branches = describe(key.branch)};
}

Delivery delivery_of(const detail::TracepointKey& key) noexcept {
    if (key.list == nullptr) return Delivery::off;
    if (key.outer.target != key.function(detail::TraceFunction::deliver)) return Delivery::direct;
    if (key.inner.target == key.function(detail::TraceFunction::iterate)) return Delivery::iterator;
    return list_of(key)->chain ? Delivery::generated : Delivery::function;
}

TracepointInfo describe(const detail::TracepointKey& key) {
    TracepointInfo info{.name = key.identity.name,
                        .signature = key.identity.signature,
                        .file = key.identity.file,
                        .line = key.identity.line,
                        .callbacks = {},
                        .hits = 0,
                        .cut = __atomic_load_n(&key.cut, __ATOMIC_RELAXED),
                        .delivery = delivery_of(key),
                        .branches = describe(key.branch)};
    const OwnedList* list = list_of(key);
    for (const auto* callback = list != nullptr ? list->begin : nullptr; list != nullptr && callback != list->end; ++callback) {
        if (callback->function == nullptr) continue;
        const std::uint64_t hits = callback->hits != nullptr ? __atomic_load_n(callback->hits, __ATOMIC_RELAXED) : 0;
        info.callbacks.push_back(
            {Address::of(callback->function), callback->attached->priority, callback->hits != nullptr, hits});
        info.hits += hits;
    }
    return info;
}

bool matches(const std::string& glob, const detail::KeyIdentity& key) noexcept {
    return fnmatch(glob.c_str(), key.name, 0) == 0;
}

}  // namespace

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
        if (!found && name == key.identity.name) found = describe(key);
    });
    return found;
}

std::vector<StaticKeyInfo> static_keys(std::string_view glob) {
    const std::string pattern(glob);
    std::vector<StaticKeyInfo> all;
    Registry::instance().for_each_static_key([&](const detail::StaticKeyData& key) {
        if (matches(pattern, key.identity)) all.push_back(describe(key));
    });
    return all;
}

std::vector<TracepointInfo> tracepoints(std::string_view glob) {
    const std::string pattern(glob);
    std::vector<TracepointInfo> all;
    Registry::instance().for_each_tracepoint([&](const detail::TracepointKey& key) {
        if (matches(pattern, key.identity)) all.push_back(describe(key));
    });
    return all;
}

std::optional<StaticKeyInfo> find_static_key(std::string_view name) {
    std::optional<StaticKeyInfo> found;
    Registry::instance().for_each_static_key([&](const detail::StaticKeyData& key) {
        if (!found && name == key.identity.name) found = describe(key);
    });
    return found;
}

std::optional<TracepointInfo> find_tracepoint(std::string_view name) {
    std::optional<TracepointInfo> found;
    Registry::instance().for_each_tracepoint([&](const detail::TracepointKey& key) {
        if (!found && name == key.identity.name) found = describe(key);
    });
    return found;
}

}  // namespace dynfunc
