// SPDX-License-Identifier: MIT
#include "os.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace dynfunc::os {
namespace {

int membarrier(int command) noexcept {
    const int saved = errno;
    const int result = syscall(SYS_membarrier, command, 0, 0) < 0 ? errno : 0;
    errno = saved;
    return result;
}

}  // namespace

int register_sync_memory() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }
int register_sync_cores() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE); }
int sync_memory() noexcept { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }
int sync_cores() noexcept { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE); }

std::size_t page_size() noexcept {
    static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

}  // namespace dynfunc::os
