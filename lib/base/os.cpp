// SPDX-License-Identifier: MIT
#include "os.hpp"

#include <dirent.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "read_lines.hpp"

namespace dynfunc::os {
namespace {

int membarrier(int command, unsigned flags = 0, int cpu = 0) noexcept {
    const KeepErrno keep;
    return syscall(SYS_membarrier, command, flags, cpu) < 0 ? errno : 0;
}

}  // namespace

int register_sync_memory() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }
int register_sync_cores() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE); }
int sync_memory() noexcept { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }
int sync_cores() noexcept { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE); }
int register_sync_sequences() noexcept { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ); }
int sync_sequences(unsigned cpu) noexcept {
    return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_FLAG_CPU, static_cast<int>(cpu));
}

std::size_t page_size() noexcept {
    static constinit std::atomic<std::size_t> known{0};
    if (const std::size_t size = known.load(std::memory_order_relaxed)) return size;
    const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    known.store(size, std::memory_order_relaxed);
    return size;
}

bool read_memory(const void* from, void* to, std::size_t size) noexcept {
    const Reading piece{from, to, size};
    return read_memory({&piece, 1});
}

bool read_memory(std::span<const Reading> pieces) noexcept {
    const KeepErrno keep;
    std::array<iovec, Reading::most> local, remote;
    std::size_t size = 0;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        local[i] = {pieces[i].to, pieces[i].size};
        remote[i] = {const_cast<void*>(pieces[i].from), pieces[i].size};
        size += pieces[i].size;
    }
    const ssize_t read = process_vm_readv(getpid(), local.data(), pieces.size(), remote.data(), pieces.size(), 0);
    if (read == static_cast<ssize_t>(size)) return true;
    if (read >= 0 || errno == EFAULT) return false;
    for (const Reading& piece : pieces) std::memcpy(piece.to, piece.from, piece.size);
    return true;
}

namespace {

// /proc/self/task/TID/status: "SigBlk:", and the set as a number in hexadecimal digits.
bool blocks(const char* thread, int signal) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/task/%.20s/status", thread);
    FILE* const status = std::fopen(path, "re");
    if (status == nullptr) return false;  // it has ended
    char line[256];
    unsigned long long blocked = 0;
    while (std::fgets(line, sizeof line, status) != nullptr)
        if (std::sscanf(line, "SigBlk: %llx", &blocked) == 1) break;
    std::fclose(status);
    // glibc blocks these two, its own, only together with all others: where it begins and ends threads and processes.
    constexpr unsigned long long of_libc = 3ULL << 31;
    return (blocked >> (signal - 1) & 1) != 0 && (blocked & of_libc) != of_libc;
}

}  // namespace

// /proc/self/smaps: the flags of a mapping follow it, two letters each.
std::vector<AddressRange> guarded_mappings() {
    const KeepErrno keep;
    std::vector<AddressRange> guarded;
    AddressRange mapping{};
    bool has_flags = false;
    const bool read = read_lines("/proc/self/smaps", [&](std::string_view line) {
        if (const auto next = mapping_of(line)) mapping = *next;
        if (!line.starts_with("VmFlags:")) return;
        has_flags = true;
        if (line.find(" bt") != line.npos) guarded.push_back(mapping);
    });
    if (!read || !has_flags) return {{Address{}, Address{UINTPTR_MAX}}};
    return guarded;
}

int thread_that_blocks(int signal) {
    const KeepErrno keep;
    DIR* const threads = opendir("/proc/self/task");
    if (threads == nullptr) return 0;
    int found = 0;
    for (const dirent* thread = readdir(threads); thread != nullptr && found == 0; thread = readdir(threads)) {
        if (thread->d_name[0] == '.') continue;
        // Others do it for a moment, too.
        constexpr int attempts = 10;
        int attempt = 0;
        while (attempt < attempts && blocks(thread->d_name, signal)) {
            const timespec moment{.tv_sec = 0, .tv_nsec = 1'000'000L * attempt++};
            nanosleep(&moment, nullptr);
        }
        if (attempt == attempts) found = std::atoi(thread->d_name);
    }
    closedir(threads);
    return found;
}

}  // namespace dynfunc::os
