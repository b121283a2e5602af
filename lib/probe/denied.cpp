// SPDX-License-Identifier: MIT
#include "denied.hpp"

#include <dynfunc/detail/export.hpp>

#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "return_slots.hpp"

extern "C" {
// Made by the linker.
DYNFUNC_HIDDEN extern const std::byte __start_dynfunc_hot[], __stop_dynfunc_hot[];
}

namespace dynfunc {
namespace {

constexpr std::array unwinder{"_Unwind_RaiseException", "_Unwind_Resume",      "_Unwind_Resume_or_Rethrow",
                              "_Unwind_ForcedUnwind",   "_Unwind_Backtrace",   "_Unwind_DeleteException",
                              "_Unwind_Find_FDE",       "__register_frame",    "__register_frame_info",
                              "__deregister_frame",     "__gxx_personality_v0"};

// Those that return twice, and those whose answer depends on the object that asks.
constexpr std::array callers_matter{"setjmp",     "_setjmp",     "__sigsetjmp", "sigsetjmp",     "vfork",  "__vfork",
                                    "dlopen",     "dlmopen",     "dlsym",       "dlvsym",        "mcount", "_mcount",
                                    "getcontext", "swapcontext", "__fentry__",  "__tls_get_addr"};

template <const auto& names>
const auto& addresses() noexcept {
    static const auto found = [] {
        std::array<Address, names.size()> to{};
        std::ranges::transform(names, to.begin(), [](const char* name) { return Address::of(dlsym(RTLD_DEFAULT, name)); });
        return to;
    }();
    return found;
}

template <const auto& names>
bool is_among(Address at) noexcept {
    return at && std::ranges::find(addresses<names>(), at) != addresses<names>().end();
}

// What signal handlers return to, as unwinders compare it (libgcc, config/i386/linux-unwind.h): mov $15, %rax; syscall.
constexpr std::array signal_return{std::byte{0x48}, std::byte{0xc7}, std::byte{0xc0}, std::byte{0x0f}, std::byte{0},
                                   std::byte{0},    std::byte{0},    std::byte{0x0f}, std::byte{0x05}};

}  // namespace

void prepare_denied() noexcept {
    static_cast<void>(addresses<unwinder>());
    static_cast<void>(addresses<callers_matter>());
}

bool is_return_denied(Address at) noexcept { return is_among<callers_matter>(at); }

bool is_denied(Address at, AddressRange function) noexcept {
    if (is_among<unwinder>(at)) return true;
    // Any byte of it that changes hides it: one that a jump in front of it would replace, too (the C library's unwind
    // information begins a byte early).
    constexpr std::ptrdiff_t most_replaced = 8;
    for (std::ptrdiff_t ahead = 1 - std::ssize(signal_return); ahead < most_replaced; ++ahead) {
        const Address from = at + ahead;
        if (from < function.begin || function.end - from < std::ssize(signal_return)) continue;
        if (std::equal(signal_return.begin(), signal_return.end(), from.as<const std::byte*>())) return true;
    }
    return false;
}

bool is_of_the_library(Address at) noexcept {
    return AddressRange{Address::of(__start_dynfunc_hot), Address::of(__stop_dynfunc_hot)}.contains(at) ||
           (arch::return_slots() && at - arch::return_slots() >= 0 && at - arch::return_slots() < arch::slot_to_record);
}

}  // namespace dynfunc
