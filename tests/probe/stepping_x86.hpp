// SPDX-License-Identifier: MIT
// Stops this thread after every instruction of a call, by the trap flag.
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <string>

#include "victims.hpp"

namespace dynfunc::test {

// What stands before the address to which the kernel sends a thread that it interrupts in a restartable sequence.
inline constexpr std::uint32_t restart_signature = 0x53053053;

// Whether one of the linker's stubs, which have no unwind information, is there: here they have.
inline bool is_in_stub(std::uintptr_t) { return false; }

class Stepping {
public:
    // call_stepped() has on_step called, in the handler of a signal, with the address of each instruction before it is
    // executed.
    explicit Stepping(void (*on_step)(std::uintptr_t)) {
        on_step_ = on_step;
        struct sigaction action {};
        action.sa_sigaction = [](int, siginfo_t*, void* context) {
            on_step_(static_cast<std::uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]));
        };
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGTRAP, &action, nullptr);
    }
    // Why it cannot be done here; empty: it can.
    std::string why_not() const { return {}; }

private:
    static inline void (*on_step_)(std::uintptr_t) = nullptr;
};

}  // namespace dynfunc::test
