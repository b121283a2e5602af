// SPDX-License-Identifier: MIT
// Stops this thread after every instruction of a call. A process of this machine cannot step itself: another one does
// (ptrace(2)), and sends it a signal at each stop.
#pragma once

#include <elf.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "victims.hpp"

namespace dynfunc::test {

// What stands before the address to which the kernel sends a thread that it interrupts in a restartable sequence.
inline constexpr std::uint32_t restart_signature = 0xd428bc00;

// What the tracer is told, by the number of a breakpoint; call_stepped() (victims_arm64.S) has the first two.
inline constexpr std::uint32_t breakpoint_of(std::uint32_t number) { return 0xd4200000 | number << 5; }
inline constexpr std::uint32_t begin_to_step = breakpoint_of(0x5701), end_of_steps = breakpoint_of(0x5702),
                               handler_is_done = breakpoint_of(0x5703);

// Whether one of the linker's stubs, which have no unwind information, is there: adrp x16; ldr x17; add x16; br x17, at an
// address that 16 divides.
inline bool is_in_stub(std::uintptr_t at) {
    std::array<std::uint32_t, 4> words;
    std::memcpy(words.data(), reinterpret_cast<const void*>(at & ~std::uintptr_t{15}), sizeof words);
    return (words[0] & 0x9f00001f) == 0x90000010 && (words[1] & 0xffc003ff) == 0xf9400211 &&
           (words[2] & 0xffc003ff) == 0x91000210 && words[3] == 0xd61f0220;
}

class Tracer {
public:
    Tracer(pid_t traced, int step_signal) : traced_(traced), step_signal_(step_signal) {}

    // False, with errno: it may not be traced.
    bool seize() const { return ptrace(PTRACE_SEIZE, traced_, nullptr, nullptr) == 0; }

    void run() {
        int status = 0;
        while (waitpid(traced_, &status, __WALL) == traced_ && WIFSTOPPED(status)) {
            const int signal = WSTOPSIG(status);
            if (signal == SIGTRAP)
                on_trap();
            else
                go_on(signal);
        }
    }

private:
    enum class Now {
        runs,        // nothing is to be stepped
        steps,       // the call
        in_handler,  // of the signal that it is sent at each stop
        leaves,      // that, behind handler_is_done
        in_its_own,  // a handler that the library has for a breakpoint, which is not stepped through
    };

    void on_trap() {
        user_regs_struct registers{};
        iovec all{&registers, sizeof registers};
        ptrace(PTRACE_GETREGSET, traced_, NT_PRSTATUS, &all);
        const auto word = static_cast<std::uint32_t>(ptrace(PTRACE_PEEKTEXT, traced_, registers.pc, nullptr));
        siginfo_t why{};
        ptrace(PTRACE_GETSIGINFO, traced_, nullptr, &why);
        if (why.si_code == TRAP_BRKPT) {
            if (word != begin_to_step && word != end_of_steps && word != handler_is_done) {
                if (now_ == Now::steps) now_ = Now::in_its_own;
                return go_on(SIGTRAP);
            }
            registers.pc += sizeof word;
            ptrace(PTRACE_SETREGSET, traced_, NT_PRSTATUS, &all);
            if (word == begin_to_step) return stop_at(registers.pc);
            now_ = word == end_of_steps ? Now::runs : Now::leaves;
            return go_on(0);
        }
        if (now_ == Now::steps && registers.pc != stopped_at_) return stop_at(registers.pc);
        // The last instruction of a handler: the next stop is where it was called.
        constexpr std::uint32_t svc = 0xd4000001;
        if ((now_ == Now::leaves || now_ == Now::in_its_own) && word == svc && registers.regs[8] == SYS_rt_sigreturn)
            now_ = Now::steps;
        go_on(0);
    }
    void stop_at(std::uint64_t pc) {
        stopped_at_ = pc;
        now_ = Now::in_handler;
        go_on(step_signal_);
    }
    void go_on(int signal) {
        ptrace(now_ == Now::runs || now_ == Now::in_handler ? PTRACE_CONT : PTRACE_SINGLESTEP, traced_, nullptr,
               static_cast<std::intptr_t>(signal));
    }

    const pid_t traced_;
    const int step_signal_;
    Now now_ = Now::runs;
    std::uint64_t stopped_at_ = 0;
};

class Stepping {
public:
    // call_stepped() has on_step called, in the handler of a signal, with the address of each instruction before it is
    // executed.
    explicit Stepping(void (*on_step)(std::uintptr_t)) {
        on_step_ = on_step;
        struct sigaction action {};
        action.sa_sigaction = [](int, siginfo_t*, void* context) {
            on_step_(static_cast<ucontext_t*>(context)->uc_mcontext.pc);
            asm volatile("brk #0x5703");
        };
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGUSR1, &action, &before_);
        int pipes[2][2];
        if (pipe(pipes[0]) != 0 || pipe(pipes[1]) != 0) return;
        const pid_t traced = getpid();
        tracer_ = fork();
        if (tracer_ == 0) {
            char go = 0;
            Tracer tracer(traced, SIGUSR1);
            int error = 0;
            if (read(pipes[0][0], &go, 1) != 1 || !tracer.seize()) error = errno;
            if (write(pipes[1][1], &error, sizeof error) == sizeof error && error == 0) tracer.run();
            _exit(0);
        }
        prctl(PR_SET_PTRACER, tracer_);
        const char go = 1;
        error_ = EPIPE;
        if (tracer_ < 0 || write(pipes[0][1], &go, 1) != 1 || read(pipes[1][0], &error_, sizeof error_) != sizeof error_)
            error_ = error_ == 0 ? EPIPE : error_;
        for (const auto& each : pipes)
            for (const int file : each) close(file);
    }
    ~Stepping() {
        if (tracer_ > 0) {
            kill(tracer_, SIGKILL);
            waitpid(tracer_, nullptr, 0);
        }
        prctl(PR_SET_PTRACER, 0);
        sigaction(SIGUSR1, &before_, nullptr);
    }
    Stepping(const Stepping&) = delete;

    // Why it cannot be done here; empty: it can.
    std::string why_not() const {
        return error_ == 0 ? std::string() : std::string("no process may step another one (ptrace): ") + std::strerror(error_);
    }

private:
    static inline void (*on_step_)(std::uintptr_t) = nullptr;
    struct sigaction before_ {};
    pid_t tracer_ = -1;
    int error_ = 0;
};

}  // namespace dynfunc::test
