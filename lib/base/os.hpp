// SPDX-License-Identifier: MIT
// The system calls that have no wrapper, and what the kernel promises about them.
#pragma once

#include <dynfunc/address.hpp>

#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

namespace dynfunc::os {

// Handlers run between any two instructions of a program that looks at errno.
class KeepErrno {
public:
    KeepErrno() noexcept = default;
    ~KeepErrno() { errno = saved_; }
    KeepErrno(const KeepErrno&) = delete;

private:
    int saved_ = errno;
};

// Both return 0 or errno. register_… is needed once per process, and again in a forked child.
// After sync_memory() every running thread of the process has executed a full memory barrier (membarrier PRIVATE_EXPEDITED);
// after sync_cores() it has also executed a core-serialising instruction (PRIVATE_EXPEDITED_SYNC_CORE), so that whatever it
// fetches next is the code as it stands now. Threads that do not run pass through such an instruction before they do.
int register_sync_memory() noexcept;
int register_sync_cores() noexcept;
int sync_memory() noexcept;
int sync_cores() noexcept;

// After sync_sequences(cpu) (PRIVATE_EXPEDITED_RSEQ, Linux 5.10) every restartable sequence of the process that was running on
// that CPU has been interrupted, and those that begin there later see what the caller wrote before. 0 or errno.
int register_sync_sequences() noexcept;
int sync_sequences(unsigned cpu) noexcept;

std::size_t page_size() noexcept;

// Reads memory that may be unmapped at this moment. False: it is.  (Where the kernel refuses to tell, it is read as any
// memory.)
bool read_memory(const void* from, void* to, std::size_t size) noexcept;
// The same of several pieces, in one call. False: one of them is not there; what was read is undefined.
struct Reading {
    static constexpr std::size_t most = 64;

    const void* from;
    void* to;
    std::size_t size;
};
bool read_memory(std::span<const Reading> pieces) noexcept;

// Where an indirect branch comes to nothing but landing pads (arm64: PROT_BTI), as the kernel says: some us for each mapping,
// and for each MiB of it. Where it does not say, everywhere.  Throws: std::bad_alloc.
std::vector<AddressRange> guarded_mappings();

// A thread of this process, the caller's too, in which a signal is blocked for longer than some 50 ms, and not by libc itself;
// 0: there is none, or the system does not tell.
int thread_that_blocks(int signal);

}  // namespace dynfunc::os
