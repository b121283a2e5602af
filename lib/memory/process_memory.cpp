// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "text_writer.hpp"

namespace dynfunc {
namespace {

// The file position of our descriptor, which pwrite() neither uses nor moves: a mark by which we know it again. Programs that
// become daemons close every descriptor and reopen others under the same numbers; a write to one of those would be a disaster.
constexpr off_t mark = 0x64796e66756e63;  // "dynfunc"

constexpr int high_number = 500;  // below the usual limit of 1024

Error refused(Address at) noexcept { return {.code = Errc::text_not_writable, .address = at, .os_error = errno}; }

}  // namespace

bool ProcessMemoryWriting::is_ours() const noexcept { return descriptor_ >= 0 && lseek(descriptor_, 0, SEEK_CUR) == mark; }

Result<void> ProcessMemoryWriting::open_memory() noexcept {
    descriptor_ = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (descriptor_ < 0) return std::unexpected(refused({}));
    // Out of the way: the lowest numbers are what a program counts on.
    if (const int high = fcntl(descriptor_, F_DUPFD_CLOEXEC, high_number); high >= 0) {
        close(descriptor_);
        descriptor_ = high;
    }
    if (lseek(descriptor_, mark, SEEK_SET) != mark) {
        const Error error = refused({});
        close(descriptor_);
        descriptor_ = -1;
        return std::unexpected(error);
    }
    return {};
}

Result<void> ProcessMemoryWriting::write(Address at, std::span<const std::byte> bytes) noexcept {
    if (!is_ours()) {
        if (auto opened = open_memory(); !opened) return opened;
    }
    // The kernel breaks the copy-on-write of the page and copies there, whatever the page's rights (FOLL_FORCE); one aligned
    // word is one store or one string instruction of it (docs/decisions/0002-aligned-stores.md).
    const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(at.value));
    if (written == static_cast<ssize_t>(bytes.size())) return {};
    if (written >= 0) errno = EIO;  // inside one page the kernel writes all or nothing
    return std::unexpected(refused(at));
}

// The inherited descriptor writes to the parent.
Result<void> ProcessMemoryWriting::adopt_in_child() noexcept {
    if (is_ours()) close(descriptor_);
    descriptor_ = -1;
    return {};  // reopened by the first write; where that fails, the write says so and the old bytes stand
}

}  // namespace dynfunc
