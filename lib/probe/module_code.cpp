// SPDX-License-Identifier: MIT
#include "module_code.hpp"

#include <algorithm>

#include "find_call_sites.hpp"

namespace dynfunc {

Result<ModuleCode> ModuleCode::of(const void* inside) {
    const char* reason = nullptr;
    const auto text = ObjectText::of(inside, reason);
    if (!text) return std::unexpected(Error{.code = Errc::no_unwind_table, .address = Address::of(inside)});
    return of_image(text->segments(), text->unwind_table());
}

Result<ModuleCode> ModuleCode::of_loading(Address base) {
    const char* reason = nullptr;
    const auto text = ObjectText::of_loading(base, reason);
    if (!text) return std::unexpected(Error{.code = Errc::no_unwind_table, .address = base});
    return of_image(text->segments(), text->unwind_table());
}

ModuleCode ModuleCode::of_image(std::span<const AddressRange> text, const UnwindTable& table) {
    ModuleCode code;
    code.text_.assign(text.begin(), text.end());
    for (std::size_t i = 0; i < table.functions(); ++i) {
        const AddressRange function = table.function(i);
        if (function.size() == 0 || (!code.functions_.empty() && function.begin < code.functions_.back().end)) continue;
        const bool is_text = std::ranges::any_of(
            code.text_, [&](AddressRange segment) { return segment.begin <= function.begin && function.end <= segment.end; });
        if (!is_text) continue;
        code.functions_.push_back(function);
        if (table.is_called(i)) code.called_.push_back(function.begin);
        table.find_landing_pads(i, &code,
                                [](void* to, Address pad) { static_cast<ModuleCode*>(to)->branches_to_.push_back(pad); });
        arch::find_branch_targets(function, &code, [](void* to, Address target) {
            auto& code = *static_cast<ModuleCode*>(to);
            if (target)
                code.branches_to_.push_back(target);
            else if (code.jumps_indirectly_.empty() || code.jumps_indirectly_.back() != code.functions_.back().begin)
                code.jumps_indirectly_.push_back(code.functions_.back().begin);
        });
    }
    std::ranges::sort(code.branches_to_);
    const auto [first, last] = std::ranges::unique(code.branches_to_);
    code.branches_to_.erase(first, last);
    return code;
}

bool ModuleCode::is_text(Address at) const noexcept {
    return std::ranges::any_of(text_, [at](AddressRange segment) { return segment.contains(at); });
}

std::vector<AddressRange>::const_iterator ModuleCode::find_function(Address at) const noexcept {
    const auto behind = std::ranges::upper_bound(functions_, at, {}, &AddressRange::begin);
    return behind == functions_.begin() || !behind[-1].contains(at) ? functions_.end() : behind - 1;
}

bool ModuleCode::is_called(Address at) const noexcept { return std::ranges::binary_search(called_, at); }

AddressRange ModuleCode::function_around(Address at) const noexcept {
    const auto found = find_function(at);
    return found == functions_.end() ? AddressRange{} : *found;
}

arch::JumpSite ModuleCode::site(Address at) const noexcept {
    const AddressRange function = function_around(at);
    return site(at, {function.begin.as<const std::byte*>(), function.size()});
}

arch::JumpSite ModuleCode::site(Address at, std::span<const std::byte> function_code) const noexcept {
    arch::JumpSite site{.at = at, .code = {}, .free_behind = 0, .branches_to = 0};
    const auto found = find_function(at);
    if (found == functions_.end()) return site;
    const AddressRange function = *found;
    site.code = function_code.subspan(static_cast<std::size_t>(at - function.begin));
    const auto segment = std::ranges::find_if(text_, [&](AddressRange range) { return range.contains(at); });
    const auto behind = found + 1;
    const Address next = behind == functions_.end() ? segment->end : std::min(behind->begin, segment->end);
    site.free_behind =
        arch::padding_bytes(std::span(function.end.as<const std::byte*>(), static_cast<std::size_t>(next - function.end)));
    constexpr std::ptrdiff_t bits = 32;
    for (auto target = std::ranges::lower_bound(branches_to_, at); target != branches_to_.end() && *target - at < bits;
         ++target)
        site.branches_to |= std::uint32_t{1} << (*target - at);
    if (at != function.begin && std::ranges::binary_search(jumps_indirectly_, function.begin)) {
        // Every instruction behind the first.
        constexpr std::size_t most = 5;
        for (std::size_t k = 0; k < most;) {
            const auto next = arch::read_displaced(site.code.subspan(k), at + static_cast<std::ptrdiff_t>(k), 1);
            if (!next) break;
            k += next->size();
            site.branches_to |= std::uint32_t{1} << k;
        }
    }
    return site;
}

}  // namespace dynfunc
