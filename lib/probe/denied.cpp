// SPDX-License-Identifier: MIT
#include "denied.hpp"

#include <dynfunc/detail/export.hpp>

#include <dlfcn.h>

#include <algorithm>
#include <array>

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

const std::array<Address, unwinder.size()>& addresses() noexcept {
    static const auto found = [] {
        std::array<Address, unwinder.size()> to{};
        std::ranges::transform(unwinder, to.begin(), [](const char* name) { return Address::of(dlsym(RTLD_DEFAULT, name)); });
        return to;
    }();
    return found;
}

// What signal handlers return to, as unwinders compare it (libgcc, config/i386/linux-unwind.h): mov $15, %rax; syscall.
constexpr std::array signal_return{std::byte{0x48}, std::byte{0xc7}, std::byte{0xc0}, std::byte{0x0f}, std::byte{0},
                                   std::byte{0},    std::byte{0},    std::byte{0x0f}, std::byte{0x05}};

}  // namespace

void prepare_denied() noexcept { static_cast<void>(addresses()); }

bool is_denied(Address at, AddressRange function) noexcept {
    if (std::ranges::find(addresses(), at) != addresses().end()) return true;
    // Or its second instruction: any byte of it that changes hides it.
    for (const std::ptrdiff_t before : {0, 7}) {
        const Address from = at - before;
        if (from < function.begin || function.end - from < std::ssize(signal_return)) continue;
        if (std::equal(signal_return.begin(), signal_return.end(), from.as<const std::byte*>())) return true;
    }
    return false;
}

bool is_of_the_library(Address at) noexcept {
    return AddressRange{Address::of(__start_dynfunc_hot), Address::of(__stop_dynfunc_hot)}.contains(at);
}

}  // namespace dynfunc
