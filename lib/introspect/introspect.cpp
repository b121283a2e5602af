// SPDX-License-Identifier: MIT
#include <dynfunc/introspect.hpp>

#include <dlfcn.h>
#include <fnmatch.h>
#include <link.h>

#include <algorithm>

#include "backend.hpp"
#include "os.hpp"
#include "reasons.hpp"
#include "registry.hpp"

namespace dynfunc {
namespace {

using detail::TrampolineState;

template <class Visit>
void for_each_call_site(const detail::Jump& jump, Visit&& visit) {
    for (const auto* record = jump.trampolines; record != nullptr; record = record->next)
        for_each_site(*record, [&](const CallSite& site) {
            if (site.state != CallSiteState::no_branch) visit(site, reason(site, *record));
        });
}

void count(CallSiteCounts& counts, const detail::Jump& jump) {
    for_each_call_site(jump, [&](const CallSite&, const char* why) {
        ++counts.found;
        if (*why == '\0') {
            ++counts.patched;
            return;
        }
        const auto same =
            std::find_if(counts.left.begin(), counts.left.end(), [why](const auto& left) { return left.reason == why; });
        if (same != counts.left.end())
            ++same->sites;
        else
            counts.left.push_back({why, 1});
    });
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
                      .trampolines = {},
                      .call_sites = {}};
    for (auto* record = key.jump.trampolines; record != nullptr; record = record->next) {
        const StateText text = text_of(record->state);
        info.trampolines.push_back({Address::of(record->code), text.form, text.reason});
        info.form = std::max(info.form, text.form);
    }
    count(info.call_sites, key.jump);
    return info;
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
                        .branches = describe(key.branch),
                        .call_sites = {}};
    count(info.call_sites, key.outer);
    count(info.call_sites, key.inner);
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

// The library itself has none, nor has an object that only guards its targets.
bool has_places(const detail::Tables& tables) noexcept {
    return std::any_of(tables.records, tables.records_end,
                       [](const auto& record) { return record.state != TrampolineState::unbound; }) ||
           std::any_of(tables.branches, tables.branches_end,
                       [](const auto& record) { return record.state != detail::BranchState::unbound; });
}

// What update.hpp writes to in one object, as pages.
std::size_t private_pages(const detail::Tables& tables) {
    std::vector<std::uintptr_t> pages;
    const auto add = [&pages](Address at) { pages.push_back(at.value / os::page_size()); };
    for (const auto* record = tables.records; record != tables.records_end; ++record)
        if (record->was_written != 0) add(Address::of(record->code));
    for (const auto* record = tables.branches; record != tables.branches_end; ++record)
        if (record->state == detail::BranchState::patched) add(site_of(*record));
    if (const CallSiteTable* table = CallSiteTable::of(tables))
        for (const CallSite& site : *table)
            if (site.was_written) add(site.field);
    // Start-up tries the writer on code of the library's own.
    const AddressRange mapped{Address{tables.begin}, Address{tables.end}};
    if (backend().writing != nullptr && mapped.contains(arch::probe_code().site)) add(arch::probe_code().site);
    std::sort(pages.begin(), pages.end());
    return static_cast<std::size_t>(std::unique(pages.begin(), pages.end()) - pages.begin());
}

bool matches(const std::string& glob, const detail::KeyIdentity& key) noexcept {
    return fnmatch(glob.c_str(), key.name, 0) == 0;
}

}  // namespace

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

std::vector<CallSiteInfo> call_sites(std::string_view glob) {
    const std::string pattern(glob);
    std::vector<CallSiteInfo> all;
    const auto add = [&](const detail::KeyIdentity& key, const detail::Jump& jump) {
        if (!matches(pattern, key)) return;
        for_each_call_site(jump, [&](const CallSite& site, const char* why) {
            all.push_back({key.name, site.field, *why == '\0', why});
        });
    };
    Registry::instance().for_each_function([&](const detail::FunctionKey& key) { add(key.identity, key.jump); });
    Registry::instance().for_each_tracepoint([&](const detail::TracepointKey& key) {
        add(key.identity, key.outer);
        add(key.identity, key.inner);
    });
    return all;
}

std::vector<ObjectInfo> objects() {
    std::vector<ObjectInfo> all;
    Registry::instance().for_each_object([&](const detail::Tables& tables) {
        if (!has_places(tables)) return;
        ObjectInfo info{.path = {},
                        .mapped = {Address{tables.begin}, Address{tables.end}},
                        .text_bytes = 0,
                        .call_sites = 0,
                        .no_call_sites = 0,
                        .nanoseconds = 0,
                        .reason = reason(tables),
                        .private_pages = private_pages(tables)};
        dl_find_object object;
        if (_dl_find_object(const_cast<detail::Tables*>(&tables), &object) == 0) info.path = object.dlfo_link_map->l_name;
        if (const CallSiteTable* table = CallSiteTable::of(tables)) {
            info.text_bytes = table->text_bytes();
            info.nanoseconds = table->nanoseconds();
            info.reason = table->reason();
            for (const CallSite& site : *table)
                ++(site.state == CallSiteState::no_branch ? info.no_call_sites : info.call_sites);
        }
        all.push_back(std::move(info));
    });
    return all;
}

}  // namespace dynfunc
