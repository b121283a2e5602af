// SPDX-License-Identifier: MIT
#include "trap_guard.hpp"

#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <signal.h>

#include <atomic>

#include "breakpoints.hpp"

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

void prepare_trap_guard() noexcept {
    if (set_mask.load(std::memory_order_acquire) != nullptr) return;
    void* const libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    if (libc == nullptr) return;
    set_handler.store(reinterpret_cast<SetHandler>(dlsym(libc, "sigaction")), std::memory_order_relaxed);
    set_mask.store(reinterpret_cast<SetMask>(dlsym(libc, "pthread_sigmask")), std::memory_order_release);
    dlclose(libc);
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
