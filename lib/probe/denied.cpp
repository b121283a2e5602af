// SPDX-License-Identifier: MIT
#include "denied.hpp"

#include <dynfunc/detail/export.hpp>

#include <algorithm>
#include <array>
#include <span>

#include "jump_plan.hpp"
#include "return_slots.hpp"

extern "C" {
// Made by the linker.
DYNFUNC_HIDDEN extern const std::byte __start_dynfunc_hot[], __stop_dynfunc_hot[];
}

// Found by the dynamic linker when it loads us: a thread that asks it later may be copied by a fork in the middle of that, and
// the child could never ask. Where there is no such function, null. Declared by other names, whatever headers say of them.
// clang-format off
// The entry points of the unwinder: those that begin to unwind, and the others.
#define DYNFUNC_UNWINDS(X)                                                                                \
    X(_Unwind_RaiseException) X(_Unwind_Resume) X(_Unwind_Resume_or_Rethrow) X(_Unwind_ForcedUnwind)      \
    X(_Unwind_Backtrace)
#define DYNFUNC_UNWINDER(X)                                                                               \
    X(_Unwind_DeleteException) X(_Unwind_Find_FDE) X(__register_frame)                                    \
    X(__register_frame_info) X(__deregister_frame) X(__gxx_personality_v0)
// Those that return twice, and those whose answer depends on the object that asks.
#define DYNFUNC_CALLER_MATTERS(X)                                                                         \
    X(setjmp) X(_setjmp) X(__sigsetjmp) X(sigsetjmp) X(vfork) X(__vfork) X(dlopen) X(dlmopen) X(dlsym)    \
    X(dlvsym) X(mcount) X(_mcount) X(getcontext) X(swapcontext) X(__fentry__) X(__tls_get_addr)
// clang-format on
#define DYNFUNC_DECLARE(name) extern "C" [[gnu::weak]] void dynfunc_denied_##name() __asm__(#name);
#define DYNFUNC_ADDRESS(name) &dynfunc_denied_##name,
DYNFUNC_UNWINDS(DYNFUNC_DECLARE)
DYNFUNC_UNWINDER(DYNFUNC_DECLARE)
DYNFUNC_CALLER_MATTERS(DYNFUNC_DECLARE)

namespace dynfunc {
namespace {

using Function = void (*)();
constinit const Function unwinds[] = {DYNFUNC_UNWINDS(DYNFUNC_ADDRESS)};
constinit const Function unwinder[] = {DYNFUNC_UNWINDER(DYNFUNC_ADDRESS)};
constinit const Function callers_matter[] = {DYNFUNC_CALLER_MATTERS(DYNFUNC_ADDRESS)};

bool is_among(std::span<const Function> functions, Address at) noexcept {
    return at && std::ranges::any_of(functions, [at](Function each) { return Address::of(each) == at; });
}

// What signal handlers return to, as unwinders compare it (libgcc, config/i386/linux-unwind.h): mov $15, %rax; syscall.
constexpr std::array signal_return{std::byte{0x48}, std::byte{0xc7}, std::byte{0xc0}, std::byte{0x0f}, std::byte{0},
                                   std::byte{0},    std::byte{0},    std::byte{0x0f}, std::byte{0x05}};

}  // namespace

bool is_return_denied(Address at) noexcept { return is_among(callers_matter, at); }

std::vector<Address> called_to_unwind(const ModuleCode& code) {
    std::vector<Address> called;
    for (const Function each : unwinds) {
        const AddressRange function = code.function_around(Address::of(each));
        if (function.size() != 0)
            arch::find_branch_targets(function, &called, [](void* to, Address target) {
                if (target) static_cast<std::vector<Address>*>(to)->push_back(target);
            });
    }
    std::ranges::sort(called);
    return called;
}

bool is_denied(Address at, AddressRange function) noexcept {
    if (is_among(unwinds, at) || is_among(unwinder, at)) return true;
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
