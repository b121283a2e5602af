// SPDX-License-Identifier: MIT
#include "trap_guard.hpp"

#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <signal.h>

#include <atomic>

#include "breakpoints.hpp"
#include "exported_functions.hpp"

namespace dynfunc {
namespace {

// Libc's own, not what a sanitizer or a preloaded object puts in front of them.
using SetHandler = int (*)(int, const struct sigaction*, struct sigaction*);
using SetMask = int (*)(int, const sigset_t*, sigset_t*);
constinit std::atomic<SetHandler> set_handler{nullptr};
constinit std::atomic<SetMask> set_mask{nullptr};
constinit std::atomic<bool> started{false};
// For ever: they are needed until the last instruction of the process. (Atomic: nobody reads it, and compilers drop what nobody
// reads, but leak checkers look here.)
constinit std::atomic<std::vector<Probe>*> guards{nullptr};

template <class T>
T argument(Registers& registers, unsigned i) noexcept {
    return (T)registers.integer(i);
}

// A hit inside of a handler is not delivered: what these call is libc's function itself.
AfterHit on_set_handler(ProbeHit& hit) {
    Registers& registers = hit.registers;
    const auto signal = static_cast<int>(registers.integer(0));
    const auto* const next = argument<const struct sigaction*>(registers, 1);
    auto* const before = argument<struct sigaction*>(registers, 2);
    if (signal == SIGTRAP) {
        Breakpoints::set_former(next, before);
        registers.return_now(0);
    } else if (next != nullptr && sigismember(&next->sa_mask, SIGTRAP) == 1) {
        struct sigaction without = *next;
        sigdelset(&without.sa_mask, SIGTRAP);
        // What it refuses, it refuses the original way, with errno.
        if (set_handler.load(std::memory_order_relaxed)(signal, &without, before) == 0) registers.return_now(0);
    }
    return AfterHit::keep;
}

AfterHit on_set_mask(ProbeHit& hit) {
    Registers& registers = hit.registers;
    const auto how = static_cast<int>(registers.integer(0));
    const auto* const next = argument<const sigset_t*>(registers, 1);
    if (how == SIG_UNBLOCK || next == nullptr || sigismember(next, SIGTRAP) != 1) return AfterHit::keep;
    sigset_t without = *next;
    sigdelset(&without, SIGTRAP);
    const int refused = set_mask.load(std::memory_order_relaxed)(how, &without, argument<sigset_t*>(registers, 2));
    registers.return_now(static_cast<std::uint64_t>(refused));
    return AfterHit::keep;
}

}  // namespace

void prepare_trap_guard() {
    if (set_mask.load(std::memory_order_acquire) != nullptr) return;
    dl_find_object libc{};
    // By its own tables, not by the dynamic linker, for the reason that denied.cpp gives.
    if (_dl_find_object(reinterpret_cast<void*>(&gnu_get_libc_version), &libc) != 0) return;
    const link_map& map = *libc.dlfo_link_map;
    if (map.l_ld == nullptr) return;
    const LoadedObject object{Address{map.l_addr}, map.l_ld, map.l_name, false};
    const auto handlers = exported_functions(object, "sigaction"), masks = exported_functions(object, "pthread_sigmask");
    if (handlers.empty() || masks.empty()) return;
    set_handler.store(handlers.front().at.as<SetHandler>(), std::memory_order_relaxed);
    set_mask.store(masks.front().at.as<SetMask>(), std::memory_order_release);
}

void start_trap_guard() {
    if (set_mask.load(std::memory_order_acquire) == nullptr || started.exchange(true)) return;
    const ProbeRequest requests[] = {
        {set_handler.load(std::memory_order_relaxed), {.on_hit = &on_set_handler, .breakpoint = AllowBreakpoint::never}},
        {set_mask.load(std::memory_order_relaxed), {.on_hit = &on_set_mask, .breakpoint = AllowBreakpoint::never}}};
    auto attached = Probe::attach(requests);
    if (attached) guards = new std::vector<Probe>(std::move(*attached));
}

}  // namespace dynfunc
