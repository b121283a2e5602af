// SPDX-License-Identifier: MIT
#include "traced_objects.hpp"

#include <dynfunc/inspect.hpp>

#include <fnmatch.h>

#include <algorithm>
#include <new>

#include "object_pattern.hpp"
#include "recording.hpp"

namespace dynfunc::tool {

using namespace trace;

namespace {

FunctionList& functions_in(const SharedMemory& list) noexcept { return *reinterpret_cast<FunctionList*>(list.data()); }

}  // namespace

bool TracedObjects::is_wanted(const std::string& path) const {
    if (path == agent_) return false;
    if (trace_.modules.empty()) return path == objects_.begin()->second.path;
    return std::ranges::any_of(trace_.modules, [&](const std::string& pattern) { return matches_object(pattern, path); });
}

TracedObjects::Object& TracedObjects::find(const std::string& path) {
    const auto [place, is_new] = order_.emplace(path, order_.size());
    Object& object = objects_[place->second];
    if (!is_new) return object;
    object.path = path;
    if (!is_wanted(path)) return object;
    const auto found = inspect_file(path);
    if (!found) {
        object.refusal = found.error().message();
        return object;
    }
    object.first_number = numbers_;
    for (const FunctionVerdict& function : found->functions) {
        const auto matches = [&](const std::string& pattern) {
            return fnmatch(pattern.c_str(), function.name.c_str(), 0) == 0;
        };
        if (!trace_.functions.empty() && std::ranges::none_of(trace_.functions, matches)) continue;
        // What the compiler has moved out of a function is entered by jumps.
        if (function.name.ends_with(".cold") || function.name.ends_with("[clone .cold]")) continue;
        if (numbers_ + object.functions.size() == most_functions) {
            object.refusal = "more functions than can be recorded";
            break;
        }
        object.functions.push_back({function.begin.value, function.name, function.site});
    }
    numbers_ += object.functions.size();
    return object;
}

const SharedMemory* TracedObjects::list(const std::string& path, std::size_t& count) {
    Object& object = find(path);
    count = object.functions.size();
    if (count == 0) return nullptr;
    auto made = std::make_unique<SharedMemory>("dynfunc functions", FunctionList::bytes(count));
    auto& list = *new (made->data()) FunctionList{};
    list.count = static_cast<std::uint32_t>(count);
    for (std::size_t i = 0; i < count; ++i)
        new (list.functions() + i) ListedFunction{.at = object.functions[i].at,
                                                  .number = static_cast<std::uint32_t>(object.first_number + i),
                                                  .refused = 0,
                                                  .is_refused = 0,
                                                  .is_attached = 0,
                                                  .missed = 0};
    return object.lists.emplace_back(std::move(made)).get();
}

std::pair<std::size_t, std::size_t> TracedObjects::progress() const noexcept {
    std::size_t done = 0, all = 0;
    for (const auto& [order, object] : objects_)
        for (const auto& list : object.lists) {
            done += __atomic_load_n(&functions_in(*list).done, __ATOMIC_ACQUIRE);
            all += functions_in(*list).count;
        }
    return {done, all};
}

void TracedObjects::add_to(TraceResult& result, std::vector<FunctionResult*>& by_number) const {
    by_number.resize(numbers_);
    result.functions.reserve(numbers_);
    for (const auto& [order, object] : objects_) {
        if (!object.refusal.empty()) result.refused_objects.emplace_back(object.path, object.refusal);
        for (std::size_t i = 0; i < object.functions.size(); ++i) {
            FunctionResult function{.function = object.functions[i], .module = object.path};
            for (const auto& list : object.lists) {
                const ListedFunction& listed = functions_in(*list).functions()[i];
                function.is_attached = function.is_attached || listed.is_attached != 0;
                if (listed.is_refused != 0) function.refused = static_cast<Errc>(listed.refused);
                function.missed += listed.missed;
            }
            result.functions.push_back(std::move(function));
            by_number[object.first_number + i] = &result.functions.back();
        }
        for (const auto& list : object.lists) result.untracked += functions_in(*list).untracked;
    }
}

}  // namespace dynfunc::tool
