// SPDX-License-Identifier: MIT
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os.hpp"
#include "text_writer.hpp"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U  // Linux 6.3: says that the pages are meant to be executed
#endif

namespace dynfunc {
namespace {

Error refused(Address at) noexcept {
    return {.code = errno == ENOMEM ? Errc::out_of_memory : Errc::text_not_writable, .address = at, .os_error = errno};
}

int create_memory_file() noexcept {
    const int file = memfd_create("dynfunc", MFD_CLOEXEC | MFD_EXEC);
    return file < 0 && errno == EINVAL ? memfd_create("dynfunc", MFD_CLOEXEC) : file;
}

bool write_all(int file, Address from, std::size_t size) noexcept {
    for (std::size_t done = 0; done < size;) {
        const ssize_t written = ::write(file, (from + static_cast<std::ptrdiff_t>(done)).as<const void*>(), size - done);
        if (written <= 0) return false;
        done += static_cast<std::size_t>(written);
    }
    return true;
}

template <class Word>
std::size_t store(std::byte* to, const std::byte* from) noexcept {
    Word word;
    std::memcpy(&word, from, sizeof word);
    __atomic_store_n(reinterpret_cast<Word*>(to), word, __ATOMIC_RELEASE);
    return sizeof word;
}

Address page_of(Address at) noexcept { return Address{at.value & ~(os::page_size() - 1)}; }

}  // namespace

// bytes before, bytes after:  the same. The page is exchanged for one of equal content in one system call: a thread that runs
// there executes the old page or the new one and cannot tell.
Result<void> MemoryFileWriting::replace_page(Address page) noexcept {
    const int file = create_memory_file();
    bool done = file >= 0;
    if (done) {
        const std::size_t size = os::page_size();
        // The bare system call: the thread sanitizer's mmap() wants to mark the page as new and faults, because it keeps
        // no record of text. Every argument as wide as a register: of a narrower one the kernel would read half by chance.
        done = write_all(file, page, size) && syscall(SYS_mmap, page.value, size, long{PROT_READ | PROT_EXEC},
                                                      long{MAP_SHARED | MAP_FIXED}, long{file}, 0L) != -1;
        const int saved = errno;
        close(file);
        errno = saved;
    }
    if (!done) return std::unexpected(refused(page));
    return {};
}

Result<void> MemoryFileWriting::write(Address at, std::span<const std::byte> bytes) noexcept {
    const Address page = page_of(at);
    if (std::find(replaced_.begin(), replaced_.end(), page) == replaced_.end()) {
        // Listed first: a replaced page that is not listed would stay shared with a child.
        if (!replaced_.push_back(page)) return std::unexpected(Error{.code = Errc::out_of_memory, .address = page});
        if (auto replaced = replace_page(page); !replaced) {
            replaced_.truncate(replaced_.size() - 1);
            return replaced;
        }
    }
    // 1. a second mapping of the same memory, elsewhere, first with the rights of the first, then writable, never executable.
    const std::size_t size = os::page_size();
    const auto map_again = [&] { return mremap(page.as<void*>(), 0, size, MREMAP_MAYMOVE); };  // old size 0: shared memory
    void* alias = map_again();
    if (alias == MAP_FAILED && errno == EINVAL) {
        // Private: the object whose page was replaced is unloaded, and another one is here.
        if (auto replaced = replace_page(page); !replaced) return replaced;
        alias = map_again();
    }
    if (alias == MAP_FAILED) return std::unexpected(refused(at));
    if (mprotect(alias, size, PROT_READ | PROT_WRITE) != 0) {
        const Error error = refused(at);
        munmap(alias, size);
        return std::unexpected(error);
    }
    // 2. the words, one aligned store each. A thread that runs there sees each word old or new.
    std::byte* to = static_cast<std::byte*>(alias) + (at - page);
    for (std::size_t done = 0; done < bytes.size();) {
        const bool whole = bytes.size() - done >= sizeof(std::uint64_t) && (at.value + done) % sizeof(std::uint64_t) == 0;
        done +=
            whole ? store<std::uint64_t>(to + done, bytes.data() + done) : store<std::uint32_t>(to + done, bytes.data() + done);
    }
    // 3. nothing writable is left.
    munmap(alias, size);
    return {};
}

void MemoryFileWriting::forget(AddressRange range) noexcept {
    const auto* last = std::remove_if(replaced_.begin(), replaced_.end(), [&](Address page) { return range.contains(page); });
    replaced_.truncate(static_cast<std::size_t>(last - replaced_.begin()));
}

// Shared memory stays shared across fork: each page becomes a new one with the content of this moment. A page that cannot is
// struck from the list, so that a later write tries again before it stores anything.
Result<void> MemoryFileWriting::adopt_in_child() noexcept {
    Result<void> first_refusal;
    const auto* last = std::remove_if(replaced_.begin(), replaced_.end(), [&](Address page) {
        auto replaced = replace_page(page);
        if (!replaced && first_refusal) first_refusal = replaced;
        return !replaced.has_value();
    });
    replaced_.truncate(static_cast<std::size_t>(last - replaced_.begin()));
    return first_refusal;
}

// A page that is not listed is replaced before it is written.
void MemoryFileWriting::leave_to_child() noexcept { replaced_.truncate(0); }

}  // namespace dynfunc
