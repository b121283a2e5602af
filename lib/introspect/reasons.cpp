// SPDX-License-Identifier: MIT
#include "reasons.hpp"

#include <algorithm>

#include "backend.hpp"
#include "registry.hpp"

namespace dynfunc {

using detail::TrampolineState;

namespace {

constexpr const char* not_to_be_patched = "call sites are not to be patched";

bool are_sites_wanted(const detail::Tables& tables) noexcept {
    return std::any_of(tables.records, tables.records_end, [](const detail::TrampolineRecord& record) {
        return record.object != nullptr && Registry::instance().wants_sites(*static_cast<const detail::Jump*>(*record.key));
    });
}

}  // namespace

StateText text_of(TrampolineState state) noexcept {
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

const char* reason(const CallSite& site, const detail::TrampolineRecord& record) noexcept {
    const auto* jump = static_cast<const detail::Jump*>(*record.key);
    const CallSites when = Registry::instance().when_call_sites();
    const bool are_wanted = Registry::instance().wants_sites(*jump);
    switch (site.state) {
        case CallSiteState::unread:
            return when == CallSites::never ? not_to_be_patched
                   : are_wanted ? "it could not be read: there was no memory, or a breakpoint stands in its function"
                                : "what it calls was never changed, so it was not looked at";
        case CallSiteState::no_branch:
            return "it is no branch";
        case CallSiteState::across:
            return "one store does not replace its distance";
        case CallSiteState::refused:
            return "it could not be written when its object was loaded";
        case CallSiteState::foreign:
            return "foreign bytes stood there";
        case CallSiteState::ready:
            break;
    }
    const auto direct = arch::encode_reference(site.field, site.current, Address::of(jump->target));
    if (direct && *direct == site.current) return "";
    if (jump->target == jump->null_target) return "its target is null, of which the trampoline returns";
    if (!direct) return "the target is out of reach of a direct call";
    // It was confirmed together with another one in its function.
    return when == CallSites::on_change && !are_wanted ? "what it calls was never changed" : not_to_be_patched;
}

const char* reason(const detail::Tables& tables) noexcept {
    if (backend().no_call_sites != nullptr) return backend().no_call_sites;
    if (Registry::instance().when_call_sites() == CallSites::never) return not_to_be_patched;
    return are_sites_wanted(tables) ? "there was no memory to look for them" : "nothing that it calls was ever changed";
}

}  // namespace dynfunc
