// SPDX-License-Identifier: MIT
// What a new place is going to be: the best form that fits, and its stub.
#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "denied.hpp"
#include "places.hpp"
#include "registry.hpp"

namespace dynfunc {

namespace {

// Whether one begins there if they are read one after the other, from the function's begin on.
bool begins_instruction(Address at, Address function, std::span<const std::byte> code) noexcept {
    std::size_t offset = 0;
    while (function + static_cast<std::ptrdiff_t>(offset) < at) {
        const auto instruction = arch::read_displaced(code.subspan(offset), function + static_cast<std::ptrdiff_t>(offset), 1);
        if (!instruction) return false;
        offset += instruction->size();
    }
    return function + static_cast<std::ptrdiff_t>(offset) == at;
}

}  // namespace

Result<void> Places::check_is_called(Address at) {
    const auto module = module_around(at);
    if (!module) return std::unexpected(module.error());
    if (is_return_denied(at) || std::ranges::binary_search((*module)->called_to_unwind, at)) return refuse(Errc::denied, at);
    if ((*module)->code.is_called(at)) return {};
    // What cannot be probed at all says so.
    const ModuleCode& code = (*module)->code;
    if (!code.is_text(at)) return refuse(Errc::not_executable, at);
    if (is_of_the_library(at)) return refuse(Errc::inside_library, at);
    return refuse(code.function_around(at).size() == 0 ? Errc::no_unwind_table : Errc::not_a_function, at);
}

Result<Places::Table::node_type> Places::plan(const Module& module, Address at, const ProbeOptions& options,
                                              const detail::WrapEntry* wrap) {
    const ModuleCode& code = module.code;
    if (!code.is_text(at)) return refuse(Errc::not_executable, at);
    if (is_of_the_library(at)) return refuse(Errc::inside_library, at);
    const AddressRange function = code.function_around(at);
    if (function.size() == 0) return refuse(Errc::no_unwind_table, at);

    // As it was linked, but for what others have changed.
    const auto* const text = function.begin.as<const std::byte*>();
    std::vector<std::byte> original(text, text + function.size());
    for_each_claimed(function, [&](const Place& place) {
        if (!place.is_armed) return;
        for (std::size_t k = 0; k < place.replacement.size; ++k) {
            const std::ptrdiff_t offset = place.hit.at + static_cast<std::ptrdiff_t>(k) - function.begin;
            if (offset >= 0 && std::cmp_less(offset, original.size()))
                original[static_cast<std::size_t>(offset)] = place.replacement.before[k];
        }
    });
    arch::JumpSite site = code.site(at, original);
    if (is_denied(at, function)) return refuse(Errc::denied, at);
    const arch::Breakpoint& trap = arch::breakpoint();
    if (site.code.size() >= trap.size && std::equal(trap.bytes.begin(), trap.bytes.begin() + trap.size, site.code.begin()))
        return refuse(Errc::foreign_breakpoint, at);
    if (!begins_instruction(at, function.begin, original)) return refuse(Errc::middle_of_instruction, at);
    if (auto allowed = arch::check_neighbours(original, function.begin, at); !allowed) return std::unexpected(allowed.error());
    site.is_guarded = arch::guards_pages();

    // Threads come to the probed instructions behind this one, as they do to where branches lead.
    constexpr std::ptrdiff_t bits = 32;
    for_each_claimed({at + 1, at + bits}, [&](const Place& place) {
        if (place.hit.at > at) site.branches_to |= std::uint32_t{1} << (place.hit.at - at);
    });
    Table made;
    Place& place = made.emplace(std::piecewise_construct, std::forward_as_tuple(at), std::forward_as_tuple())->second;
    place.hit.at = at;
    place.is_function_begin = at == function.begin;
    place.is_forced = options.breakpoint == AllowBreakpoint::always;
    place.is_loading = module.was_loading;
    if (wrap != nullptr) place.wrapped = std::make_unique<Place::Wrapped>(*wrap);
    Result<void> done = refuse(Errc::too_short, at);
    for (const SiteForm& form : site_forms) {
        if (place.is_forced) break;
        done = try_form(place, form, site);
        // Reading what is guarded takes long: asked where it matters.
        if (!done && done.error().code == Errc::landing_pad && !is_guarded(at)) {
            site.is_guarded = false;
            place.wants_unguarded = true;
            done = try_form(place, form, site);
        }
        if (done) return made.extract(made.begin());
        place.why = done.error().code;
        place.why_at = done.error().address;
        place.why_os_error = done.error().os_error;
    }
    if (options.breakpoint == AllowBreakpoint::never) return std::unexpected(done.error());
    if (auto trapped = try_breakpoint(place, site); !trapped) return std::unexpected(trapped.error());
    return made.extract(made.begin());
}

// By the library itself, for its functions, keys and tracepoints.
bool Places::is_patched(AddressRange range) const noexcept {
    const Module* const module = known_module(range.begin);
    if (module == nullptr) return false;
    const auto behind = std::ranges::lower_bound(module->patched, range.end, {}, &AddressRange::begin);
    return behind != module->patched.begin() && range.begin < behind[-1].end;
}

// The stub, where it reaches what the instructions refer to.
Result<void> Places::make_stub(Place& place) {
    // As far as a branch at the place leads, and the branch back: with room for the stub itself.
    const arch::Capabilities& machine = arch::capabilities();
    constexpr std::ptrdiff_t far = 1 << 30, room = arch::most_stub_bytes;
    const auto near = static_cast<std::int32_t>(std::min({far, -machine.reach_back - room, machine.reach_ahead - room}));
    const Address at = place.hit.at;
    if (is_claimed(place) || is_patched(place.footprint())) return refuse(Errc::patched_place, at);
    {
        const Registry::Hold hold(Registry::instance());
        if (Registry::instance().has_call_site_in(place.footprint())) return refuse(Errc::patched_place, at);
    }
    Reach reach{.from = at, .least = -near, .most = near};
    auto stub = memory_.take(reach, arch::most_stub_bytes);
    if (!stub) return std::unexpected(stub.error());
    std::array<std::byte, arch::most_stub_bytes> bytes;
    const arch::StubRequest request{
        .displaced = &place.displaced, .is_function_begin = place.is_function_begin, .site = Address::of(&place.hit)};
    const Place::Wrapped* const wrapped = place.wrapped.get();
    const auto encode = [&] {
        return wrapped != nullptr ? arch::encode_wrap_thunk({.displaced = &place.displaced,
                                                             .context = Address::of(&wrapped->context),
                                                             .entry = wrapped->entry.entry,
                                                             .in_vector_register = wrapped->entry.in_vector_register,
                                                             .number = wrapped->entry.number},
                                                            *stub, bytes)
                                  : arch::encode_stub(request, *stub, bytes);
    };
    auto code = encode();
    // Once more for each of the instructions, where it is near to what they refer to, too.
    for (std::size_t i = 0; i < place.displaced.count && !code && code.error().code == Errc::out_of_reach; ++i) {
        memory_.release(*stub, arch::most_stub_bytes);
        const std::ptrdiff_t distance = code.error().address - at;
        reach.least = static_cast<std::int32_t>(std::clamp<std::ptrdiff_t>(distance - near, reach.least, reach.most));
        reach.most = static_cast<std::int32_t>(std::clamp<std::ptrdiff_t>(distance + near, reach.least, reach.most));
        stub = memory_.take(reach, arch::most_stub_bytes);
        if (!stub) return std::unexpected(code.error());
        code = encode();
    }
    if (!code) {
        memory_.release(*stub, arch::most_stub_bytes);
        return std::unexpected(code.error());
    }
    memory_.release(*stub + code->size, arch::most_stub_bytes - code->size);
    place.code = *code;
    place.stub = place.entry = *stub;
    place.hit.copy = *stub + code->copy;
    unwritten_.add(*stub, std::span(bytes).first(code->size));
    return {};
}

void Places::forget_stub(Place& place) noexcept {
    unwritten_.drop_last();
    memory_.release(place.stub, place.code.size);
    place.stub = place.entry = {};
}

Result<void> Places::try_form(Place& place, const SiteForm& form, const arch::JumpSite& site) {
    const auto plan = arch::plan_jump(form.form, site);
    if (!plan) return std::unexpected(plan.error());
    place.displaced = plan->displaced;
    place.site_class = form.site_class;
    if (auto made = make_stub(place); !made) return made;
    const Address at = place.hit.at;
    if (plan->given_mask != 0) {
        const auto entry =
            memory_.take({.from = at + plan->distance_from, .given_mask = plan->given_mask, .given = plan->given},
                         arch::jump_anywhere_bytes);
        if (!entry) {
            forget_stub(place);
            return std::unexpected(entry.error());
        }
        place.entry = *entry;
        const auto jump = arch::encode_jump_anywhere(*entry, place.stub);
        unwritten_.add(*entry, jump);
    }
    const auto jump = arch::encode_site(arch::SiteKind::branch, at, place.entry);
    if (!jump) return std::unexpected(jump.error());

    Replacement& replacement = place.replacement;
    replacement.at = at;
    replacement.size = plan->written;
    // What fills up behind the function is nobody's.
    std::copy_n(at.as<const std::byte*>(), plan->written, replacement.before.begin());
    std::copy_n(site.code.begin(), std::min<std::size_t>(plan->written, site.code.size()), replacement.before.begin());
    std::copy_n(jump->bytes.begin(), plan->written, replacement.after.begin());
    for (std::size_t i = 1; i < place.displaced.count; ++i)
        if (const std::size_t k = place.displaced.begins[i]; k < plan->written)
            replacement.boundaries |= static_cast<std::uint8_t>(1 << k);
    return {};
}

Result<void> Places::try_breakpoint(Place& place, const arch::JumpSite& site) {
    const auto displaced = arch::read_displaced(site.code, site.at, 1);
    if (!displaced) return std::unexpected(displaced.error());
    place.displaced = *displaced;
    place.site_class = SiteClass::breakpoint;
    if (auto made = make_stub(place); !made) return made;
    const arch::Breakpoint& trap = arch::breakpoint();
    place.replacement.at = site.at;
    place.replacement.size = static_cast<std::uint8_t>(trap.size);
    std::ranges::copy(site.code.first(trap.size), place.replacement.before.begin());
    std::copy_n(trap.bytes.begin(), trap.size, place.replacement.after.begin());
    return {};
}

}  // namespace dynfunc
