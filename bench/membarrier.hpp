// SPDX-License-Identifier: MIT
// The one system call that no way of changing running code avoids, alone: the floor of every latency below.
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

}  // namespace bench
