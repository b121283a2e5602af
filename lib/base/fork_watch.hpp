// SPDX-License-Identifier: MIT
// Notices that this process is a copy of another one, also where no fork handler ran (raw clone, _Fork).
#pragma once

#include <sys/types.h>

#include <atomic>

namespace dynfunc {

// One word on a page that the kernel empties in every child (MADV_WIPEONFORK, Linux 4.14). Where the kernel cannot, the process
// id is compared: a system call per question. A child that shares the memory (vfork, CLONE_VM) is no new process here.
class ForkWatch {
public:
    // Starts watching; again in a child, after is_new_process() was answered.
    // Threads: one at a time. Where it was never called, or there is no memory for the page, the process id decides.
    void arm() noexcept;
    bool is_armed() const noexcept { return armed_in_ != 0; }
    // Whether this is a child since arm().
    bool is_new_process() const noexcept;

private:
    std::atomic<int>* word_ = nullptr;  // 1: the process that armed it; 0: wiped
    pid_t armed_in_ = 0;
};

}  // namespace dynfunc
