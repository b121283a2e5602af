// SPDX-License-Identifier: MIT
// Runs a function in a child process and tells how it ended.
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace dynfunc::test {

struct Ended {
    int status;  // exit status, or -1
    int signal;  // that killed it, or 0
};

inline Ended wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
    }
    return WIFEXITED(status) ? Ended{WEXITSTATUS(status), 0} : Ended{-1, WTERMSIG(status)};
}

// A fault ends the child as a signal; a sanitizer's handler would make an exit status of it.
inline void take_faults_as_signals() {
    for (int fault : {SIGSEGV, SIGBUS, SIGILL}) signal(fault, SIG_DFL);
}

// `body` returns the exit status. The child leaves by _exit: no destructors, no test output.
template <class Body>
pid_t start_child(Body&& body) {
    const pid_t child = fork();
    if (child == 0) {
        take_faults_as_signals();
        _exit(body());
    }
    return child;
}

// As fork(), but past every fork handler, as libraries that call the kernel themselves do.
template <class Body>
pid_t start_raw_child(Body&& body) {
    const auto child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    if (child == 0) _exit(body());
    return child;
}

template <class Body>
Ended in_child(Body&& body) {
    return wait_for(start_child(static_cast<Body&&>(body)));
}

}  // namespace dynfunc::test
