// SPDX-License-Identifier: MIT
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fatal.hpp"
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
// there executes the old page or the new one and cannot tell. It is a private mapping of the memory file, so that a debugger
// may write to it, and shows what the file holds until somebody does. The other mapping is how the file is written.
Result<void> MemoryFileWriting::replace_page(Replaced& replaced) noexcept {
    const int file = create_memory_file();
    const std::size_t size = os::page_size();
    void* alias = MAP_FAILED;
    bool done = file >= 0 && write_all(file, replaced.page, size);
    if (done) alias = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    // The bare system call: the thread sanitizer's mmap() wants to mark the page as new and faults, because it keeps
    // no record of text. Every argument as wide as a register: of a narrower one the kernel would read half by chance.
    done = done && alias != MAP_FAILED &&
           syscall(SYS_mmap, replaced.page.value, size, long{PROT_READ | PROT_EXEC}, long{MAP_PRIVATE | MAP_FIXED}, long{file},
                   0L) != -1;
    const Error error = refused(replaced.page);
    if (file >= 0) close(file);
    if (!done) {
        if (alias != MAP_FAILED) munmap(alias, size);
        return std::unexpected(error);
    }
    unmap_alias(replaced);
    replaced.alias = Address::of(alias);
    return {};
}

void MemoryFileWriting::unmap_alias(Replaced& replaced) noexcept {
    if (replaced.alias) munmap(replaced.alias.as<void*>(), os::page_size());
    replaced.alias = {};
}

// The words, one aligned store each. A thread that runs there sees each word old or new. Afterwards nothing writable is left.
Result<void> MemoryFileWriting::write_alias(const Replaced& replaced, Address at, std::span<const std::byte> bytes) noexcept {
    const std::size_t size = os::page_size();
    void* const alias = replaced.alias.as<void*>();
    if (mprotect(alias, size, PROT_READ | PROT_WRITE) != 0) return std::unexpected(refused(at));
    std::byte* to = static_cast<std::byte*>(alias) + (at - replaced.page);
    for (std::size_t done = 0; done < bytes.size();) {
        const bool whole = bytes.size() - done >= sizeof(std::uint64_t) && (at.value + done) % sizeof(std::uint64_t) == 0;
        done +=
            whole ? store<std::uint64_t>(to + done, bytes.data() + done) : store<std::uint32_t>(to + done, bytes.data() + done);
    }
    if (mprotect(alias, size, PROT_READ) != 0) fatal("the system refuses to take back the right to write to code");
    return {};
}

Result<void> MemoryFileWriting::write(Address at, std::span<const std::byte> bytes) noexcept {
    const Address page = page_of(at);
    auto* known = std::find_if(replaced_.begin(), replaced_.end(), [page](const Replaced& each) { return each.page == page; });
    if (known == replaced_.end()) {
        // Listed first: a replaced page that is not listed would stay shared with a child.
        if (!replaced_.push_back({page, {}})) return std::unexpected(Error{.code = Errc::out_of_memory, .address = page});
        known = replaced_.end() - 1;
        if (auto replaced = replace_page(*known); !replaced) {
            replaced_.truncate(replaced_.size() - 1);
            return replaced;
        }
    }
    if (auto written = write_alias(*known, at, bytes); !written) return written;
    // A page that a debugger has written to, or that belongs to another object now, is no longer the file's.
    if (std::memcmp(at.as<const void*>(), bytes.data(), bytes.size()) == 0) return {};
    if (auto replaced = replace_page(*known); !replaced) return replaced;
    return write_alias(*known, at, bytes);
}

void MemoryFileWriting::forget(AddressRange range) noexcept {
    remove_if([range](Replaced& each) {
        if (!range.contains(each.page)) return false;
        unmap_alias(each);
        return true;
    });
}

// The file stays the same across fork: each page becomes a new one with the content of this moment. A page that cannot is
// struck from the list, so that a later write tries again before it stores anything.
Result<void> MemoryFileWriting::adopt_in_child() noexcept {
    Result<void> first_refusal;
    remove_if([&](Replaced& each) {
        auto replaced = replace_page(each);
        if (replaced) return false;
        if (first_refusal) first_refusal = replaced;
        unmap_alias(each);
        return true;
    });
    return first_refusal;
}

// A page that is not listed is replaced before it is written.
void MemoryFileWriting::leave_to_child() noexcept {
    remove_if([](Replaced& each) {
        unmap_alias(each);
        return true;
    });
}

}  // namespace dynfunc
