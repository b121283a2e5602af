// SPDX-License-Identifier: MIT
// membarrier alone. sync_cores() is the one system call that no way of changing running code avoids, sync_memory() the one that
// makes readers cheap: the floors of the latencies they stand beside.
#pragma once

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {

// Makes each running thread of this process see new code before it goes on. Returns false where the system refuses.
inline bool sync_cores() noexcept { return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0; }

inline bool register_sync_cores() noexcept {
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0;
}

// Makes each running thread of this process execute a full memory barrier. Returns false where the system refuses.
inline bool sync_memory() noexcept { return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0; }

inline bool register_sync_memory() noexcept {
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

}  // namespace bench
